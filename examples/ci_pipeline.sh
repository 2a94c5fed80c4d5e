#!/usr/bin/env bash
# A CI job: train for a bounded time, then fail the build when the score is not good enough.
# Exit codes: 3 = a gate was not met, 6 = the run diverged; see `genctl --help`.
set -euo pipefail
run=${1:-runs/ci}

genctl train --preset quickstart --out "$run" --resume-or-start --steps "${STEPS:-200}" --max-time 5m --quiet
genctl inspect-curves "$run" --json > "$run/reports/curves.json"
genctl evaluate --fid --kid "$run" digits@all --features pixels -n 500 \
  --require 'fd<20' --require 'kid<5' --out "$run/reports/scores.json" --json
