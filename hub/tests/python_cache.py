"""Python's huggingface_hub as a second reader and a second writer of the cache.

python_cache.py read CACHE REPO             prints the folder that Python finds without a network
python_cache.py write CACHE REPO ENDPOINT   lets Python fetch the repository into the cache
"""

import os
import sys

what, cache, repo = sys.argv[1:4]
if what == "write":
    os.environ["HF_ENDPOINT"] = sys.argv[4]
else:
    os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache

patterns = ["*.json", "*.safetensors"]
if what == "write":
    print(snapshot_download(repo, cache_dir=cache, allow_patterns=patterns))
else:
    # Newer versions call a snapshot incomplete without what the patterns left out, where Python wrote it.
    folder = snapshot_download(repo, cache_dir=cache, allow_patterns=patterns, local_files_only=True)
    for name in ["config.json", "model.safetensors", "tokenizer.json"]:
        assert hf_hub_download(repo, name, cache_dir=cache, local_files_only=True).startswith(folder)
        assert isinstance(try_to_load_from_cache(repo, name, cache_dir=cache), str)
    report = scan_cache_dir(cache)
    assert not report.warnings, report.warnings
    assert [it.repo_id for it in report.repos] == [repo], report
    print(folder)
