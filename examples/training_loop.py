"""Stochastic Jacobian-free backpropagation (S-JFB) in one's own training loop, without fpdm's trainer."""

import torch

from fpdm import DiffusionTransformer
from fpdm.data.sources.named import load
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point import stochastic_jfb
from fpdm.models.config import TransformerConfig

data, schedule = load("digits", "train"), Schedule()
shape = TransformerConfig(
    image_size=8, in_channels=1, patch_size=2, width=64, heads=4, num_classes=10, learn_variance=False
)
model, gradient = DiffusionTransformer.from_shape(shape), stochastic_jfb(N=3, M=3)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(60):
    x0, y = data.batch(torch.randint(len(data), (64,)).tolist())  # (64, 1, 8, 8) in [-1, 1], (64,)
    eps, t = torch.randn_like(x0), torch.randint(schedule.num_timesteps, (64,))
    solver = gradient.bind(seed=0, step=step)  # draws n = 0..3 iterations without gradient and m = 1..3 with
    prediction = model(schedule.add_noise(x0, eps, t), t, y, solver=solver)
    loss = torch.nn.functional.mse_loss(prediction.value, schedule.target(x0, eps, t))
    optimizer.zero_grad(), loss.backward(), optimizer.step()
print(f"step {step + 1}: loss {loss:.3f}, {prediction.solution.iters} iterations in the last step")
