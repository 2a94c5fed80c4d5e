"""The loops genctl is compared with, written as the field's example scripts write them.

Float32, contiguous memory, torch's default optimisers, nothing frozen, ``.item()`` of every loss at
every step; small pictures come one by one from PIL through ``ToTensor`` and ``Normalize``, as
torchvision's MNIST gives them. Only torch is used here, nothing of genctl.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Losses = dict[str, float]


# --- data ---------------------------------------------------------------------------------------
class Items(Dataset):
    """uint8 ``(N, 1, H, W)`` as torchvision's MNIST reads it: one PIL image at a time."""

    def __init__(self, examples: Tensor, normalise: bool) -> None:
        from torchvision import transforms

        steps = [transforms.ToTensor()]
        if normalise:
            steps.append(transforms.Normalize((0.5,), (0.5,)))
        self.examples, self.transform = examples[:, 0], transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.examples[i].numpy(), mode="L")), 0


def item_by_item(examples: Tensor, batch_size: int, normalise: bool = True) -> Iterator[Tensor]:
    loader = DataLoader(Items(examples, normalise), batch_size, shuffle=True, drop_last=True)
    while True:
        for x, _ in loader:
            yield x


def ready(examples: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Batches of floats that lie in memory already: data that costs the peer nothing."""
    pictures = examples.float().div(127.5).sub(1)
    while True:
        for start in range(0, len(pictures) - batch_size + 1, batch_size):
            yield pictures[start : start + batch_size]


# --- networks -----------------------------------------------------------------------------------
def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


def dcgan_generator(latent: int, channels: int, edge: int, width: int) -> nn.Sequential:
    ups, base = _halvings(edge)
    wide = width * 2 ** (ups - 1)
    layers = [nn.ConvTranspose2d(latent, wide, base, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
    for _ in range(ups - 1):
        layers += [
            nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(wide // 2),
            nn.ReLU(True),
        ]
        wide //= 2
    net = nn.Sequential(*layers, nn.ConvTranspose2d(wide, channels, 4, 2, 1, bias=False), nn.Tanh())
    _initialise(net)
    return net


def dcgan_discriminator(channels: int, edge: int, width: int) -> nn.Sequential:
    """Ends in a probability, for ``nn.BCELoss``."""
    downs, base = _halvings(edge)
    layers = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for _ in range(downs - 1):
        layers += [
            nn.Conv2d(width, width * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width * 2),
            nn.LeakyReLU(0.2, True),
        ]
        width *= 2
    score = [nn.Conv2d(width, 1, base, bias=False), nn.Flatten(0), nn.Sigmoid()]
    net = nn.Sequential(*layers, *score)
    _initialise(net)
    return net


def critic(channels: int, edge: int, width: int) -> nn.Sequential:
    """Convolutions without norm down to 4 pixels (7 of 28), then a linear score."""
    downs, base = _halvings(edge)
    layers: list[nn.Module] = []
    for _ in range(downs):
        layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        channels, width = width, width * 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * base**2, 1), nn.Flatten(0))


def mlp_generator(latent: int, edge: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent, width),
        nn.ReLU(True),
        nn.Linear(width, width),
        nn.ReLU(True),
        nn.Linear(width, edge**2),
        nn.Tanh(),
        nn.Unflatten(1, (1, edge, edge)),
    )


def mlp_discriminator(edge: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(edge**2, width),
        nn.LeakyReLU(0.2, True),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2, True),
        nn.Linear(width, 1),
        nn.Flatten(0),
        nn.Sigmoid(),
    )


class VAE(nn.Module):
    """784–400–20, as in pytorch/examples."""

    def __init__(self, edge: int, width: int, latent: int) -> None:
        super().__init__()
        self.fc1, self.fc21 = nn.Linear(edge**2, width), nn.Linear(width, latent)
        self.fc22, self.fc3 = nn.Linear(width, latent), nn.Linear(latent, width)
        self.fc4 = nn.Linear(width, edge**2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x.flatten(1)))
        mean, log_variance = self.fc21(h), self.fc22(h)
        deviation = torch.exp(0.5 * log_variance)
        z = mean + torch.randn_like(deviation) * deviation
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, log_variance


def _halvings(edge: int) -> tuple[int, int]:
    """How often a network halves the edge, and where it ends."""
    count = 0
    while edge % 2 == 0 and edge > 4:
        edge, count = edge // 2, count + 1
    return count, edge


# --- loops --------------------------------------------------------------------------------------
class GANLoop:
    """pytorch/examples, dcgan/main.py: D on real, D on fake, then G on the same fake."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, latent: int, data: Iterator[Tensor]
    ) -> None:
        self.g, self.d, self.latent, self.data = generator, discriminator, latent, data
        self.criterion = nn.BCELoss()
        settings = {"lr": 2e-4, "betas": (0.5, 0.999)}
        self.of_d = torch.optim.Adam(self.d.parameters(), **settings)
        self.of_g = torch.optim.Adam(self.g.parameters(), **settings)

    def noise(self, n: int) -> Tensor:
        return _shaped(torch.randn(n, self.latent), self.g)

    def step(self) -> Losses:
        self.d.zero_grad()
        real = next(self.data)
        label = torch.full((len(real),), 1.0)
        loss_real = self.criterion(self.d(real), label)
        loss_real.backward()
        fake = self.g(self.noise(len(real)))
        label.fill_(0.0)
        loss_fake = self.criterion(self.d(fake.detach()), label)
        loss_fake.backward()
        self.of_d.step()
        self.g.zero_grad()
        label.fill_(1.0)
        loss_g = self.criterion(self.d(self.generated(fake)), label)
        loss_g.backward()
        self.of_g.step()
        return {"discriminator": loss_real.item() + loss_fake.item(), "generator": loss_g.item()}

    def generated(self, fake: Tensor) -> Tensor:
        """What the generator's step is made on: the discriminator's fake, used again."""
        return fake


class FreshGANLoop(GANLoop):
    """The same with fresh latents for the generator's step, as algorithm 1 has it."""

    def generated(self, fake: Tensor) -> Tensor:
        return self.g(self.noise(len(fake)))


class WGANGPLoop:
    """Five critic steps of three backward calls each, then one of the generator."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, latent: int, data: Iterator[Tensor]
    ) -> None:
        self.g, self.d, self.latent, self.data = generator, critic, latent, data
        settings = {"lr": 1e-4, "betas": (0.0, 0.9)}
        self.of_d = torch.optim.Adam(self.d.parameters(), **settings)
        self.of_g = torch.optim.Adam(self.g.parameters(), **settings)

    def step(self) -> Losses:
        for _ in range(5):
            loss_d = self._critic_step(next(self.data))
        self.g.zero_grad()
        n = self.batch
        loss_g = -self.d(self.g(_shaped(torch.randn(n, self.latent), self.g))).mean()
        loss_g.backward()
        self.of_g.step()
        return {"discriminator": loss_d, "generator": loss_g.item()}

    def _critic_step(self, real: Tensor) -> float:
        self.batch = len(real)
        self.d.zero_grad()
        loss_real = -self.d(real).mean()
        loss_real.backward()
        fake = self.g(_shaped(torch.randn(len(real), self.latent), self.g)).detach()
        loss_fake = self.d(fake).mean()
        loss_fake.backward()
        share = torch.rand(len(real), 1, 1, 1)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        score = self.d(mixed)
        (slope,) = torch.autograd.grad(score, mixed, torch.ones_like(score), create_graph=True)
        penalty = 10 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        penalty.backward()
        self.of_d.step()
        return loss_real.item() + loss_fake.item() + penalty.item()


class VAELoop:
    """pytorch/examples, vae/main.py."""

    def __init__(self, network: VAE, data: Iterator[Tensor]) -> None:
        self.network, self.data = network, data
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step(self) -> Losses:
        x = next(self.data)
        self.optimiser.zero_grad()
        seen, mean, log_variance = self.network(x)
        error = F.binary_cross_entropy(seen, x.flatten(1), reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss = error + kl
        loss.backward()
        self.optimiser.step()
        return {"autoencoder": loss.item()}


def _shaped(z: Tensor, generator: nn.Module) -> Tensor:
    """Convolutional generators take latents as pictures of one pixel."""
    first = next(iter(generator.children()))
    return z[:, :, None, None] if isinstance(first, nn.ConvTranspose2d) else z
