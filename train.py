"""Train a denoiser: ``python train.py experiment=cwrnn``; ``python train.py --help`` lists what can be set."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from hushwork.config import quieten_other_ranks, register_resolvers
from hushwork.data.manifest import ManifestError

register_resolvers()
quieten_other_ranks(sys.argv)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    try:
        return instantiate(cfg.run)(cfg)
    except ManifestError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # whose sweeper goes on with the next trial
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
