"""An LSTM over a known number of steps is these steps, one behind the other."""

import torch
from torch import Tensor, nn

SHAPE = (1, 6, 4)
DEVICE = "ort-nnapi"
FINDINGS = (("NPU101", "LSTM"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.input, self.state = nn.Linear(4, 32), nn.Linear(8, 32)
        weights = dict(old.lstm.named_parameters())
        self.input.load_state_dict({"weight": weights["weight_ih_l0"], "bias": weights["bias_ih_l0"]})
        self.state.load_state_dict({"weight": weights["weight_hh_l0"], "bias": weights["bias_hh_l0"]})

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(1, 8)
        for step in range(6):
            gates = self.input(x[:, step]) + self.state(h)
            i, f, g, o = gates[:, :8], gates[:, 8:16], gates[:, 16:24], gates[:, 24:]
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h
