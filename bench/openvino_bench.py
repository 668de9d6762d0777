#!/usr/bin/env python3
"""OpenVINO GenAI measured as llama-bench measures: the same options, the same JSON, for bench/compare.py --peer.

    openvino_bench.py -m MODEL.gguf [-p 512] [-n 128] [-d 0] [-t 2] [-r 5] [-ctk f16|q8_0] [-ctv ...] [-o json]

It reads the very GGUF file (its own reader converts it while loading; architectures it does not know end with an
error) and runs on its paged-attention back end. Tokens at the depth are read once and then found in its prefix cache,
so that a test times only what comes after them; blocks of 32 tokens are cached, so a depth is rounded down to one.
bench/fetch_peers.py openvino installs the wheel and prints a launcher.
"""

import argparse
import datetime
import json
import random
import statistics
import sys

BLOCK = 32
KV_TYPES = {"f16": "f16", "bf16": "bf16", "f32": "f32", "q8_0": "u8"}
CACHE_GIB = 4


class Bench:
    def __init__(self, options):
        import openvino
        import openvino_genai
        self.genai, self.tensor = openvino_genai, openvino.Tensor
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = max(512, options.prompt)
        self.pipeline = openvino_genai.LLMPipeline(
            options.model, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=options.threads,
            KV_CACHE_PRECISION=KV_TYPES[options.type_k])
        self.version = openvino_genai.__version__
        self.random = random.Random(1)

    def tokens(self, count):
        return [self.random.randrange(1000, 20000) for _ in range(count)]

    def generate(self, tokens, count):
        """Runs one request; returns (ms to the first token, mean ms of those after it)."""
        import numpy
        config = self.genai.GenerationConfig(max_new_tokens=count, ignore_eos=True, do_sample=False,
                                             apply_chat_template=False)
        ids = numpy.array([tokens], dtype=numpy.int64)
        inputs = self.genai.TokenizedInputs(self.tensor(ids), self.tensor(numpy.ones_like(ids)))
        metrics = self.pipeline.generate(inputs, config).perf_metrics
        if metrics.get_num_generated_tokens() != count:
            raise SystemExit(f"openvino_bench.py: wanted {count} tokens, got {metrics.get_num_generated_tokens()}")
        return metrics.get_ttft().mean, metrics.get_tpot().mean

    def prefill(self, depth, count):
        return 1000 * count / self.generate(depth + self.tokens(count), 1)[0]

    def decode(self, depth, count):
        return 1000 / self.generate(depth + self.tokens(1), count + 1)[1]


def measure(bench, options, depth_tokens):
    depth = bench.tokens(depth_tokens // BLOCK * BLOCK)
    if depth:
        bench.generate(depth, 1)
    for n_prompt, n_gen in ((options.prompt, 0), (0, options.gen)):
        if n_prompt + n_gen == 0:
            continue
        test = (lambda: bench.prefill(depth, n_prompt)) if n_prompt else (lambda: bench.decode(depth, n_gen))
        test()  # warm-up, as llama-bench does
        samples = [test() for _ in range(options.repetitions)]
        yield {"n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth_tokens, "avg_ts": statistics.mean(samples),
               "samples_ts": samples, "n_threads": options.threads, "type_k": options.type_k,
               "build_commit": "openvino-genai " + bench.version,
               "test_time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-d", "--depths", default="0")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument("-ctk", "--type-k", choices=sorted(KV_TYPES), default="f16")
    parser.add_argument("-ctv", "--type-v", choices=sorted(KV_TYPES), help="taken, and the same as -ctk")
    parser.add_argument("-o", "--output", choices=["json"], default="json")
    return parser.parse_args()


def main():
    options = parse()
    bench = Bench(options)
    rows = [row for depth in options.depths.split(",") for row in measure(bench, options, int(depth))]
    print(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
