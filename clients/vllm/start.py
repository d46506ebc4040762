"""What `vllm bench serve` runs, started where there is no other part of vLLM to start: its own options, its own main.

The `vllm` command asks for a distribution of that name, which the CPU build has not. Run by vLLM's environment.
"""

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
