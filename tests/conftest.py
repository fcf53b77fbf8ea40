"""One thread for every test: small models gain nothing from more, and workers share a machine."""

import torch

torch.set_num_threads(1)
