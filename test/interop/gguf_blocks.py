"""What the gguf package makes of a file's tensors: written beside it in float32, one after the other in the order of their names.

    python gguf_blocks.py JOB.json
"""
import json
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

with open(sys.argv[1]) as file:
    job = json.load(file)
tensors = sorted(GGUFReader(job['file']).tensors, key=lambda tensor: tensor.name)
with open(job['values'], 'wb') as out:
    for tensor in tensors:
        out.write(dequantize(tensor.data, tensor.tensor_type).astype(np.float32).tobytes())
print('ANSWER', json.dumps([[tensor.name, tensor.tensor_type.name] for tensor in tensors]), flush=True)
