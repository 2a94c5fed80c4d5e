"""Feature extractors: whose eyes the measures look through."""
