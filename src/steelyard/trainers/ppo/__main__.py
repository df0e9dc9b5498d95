"""`python -m steelyard.trainers.ppo run.json`."""

import sys

from steelyard.trainers.ppo.training import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
