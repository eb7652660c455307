"""Train a denoiser: ``python train.py experiment=cwrnn``; ``python train.py --help`` lists what can be set."""

import sys

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from hushwork.config import quieten_other_ranks, register_resolvers

register_resolvers()
quieten_other_ranks(sys.argv)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    return instantiate(cfg.run)(cfg)


if __name__ == "__main__":
    main()
