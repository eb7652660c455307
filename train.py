"""Train a denoiser: ``python train.py experiment=cwrnn``; ``python train.py --help`` lists what can be set."""

from hushwork.cli.train import main

if __name__ == "__main__":
    main()
