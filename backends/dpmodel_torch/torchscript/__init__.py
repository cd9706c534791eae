"""TorchScript, which deepmd-kit 3.2 and metatomic load; this folder can go when they have moved on."""
