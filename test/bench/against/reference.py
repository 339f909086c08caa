"""The pruning methods in plain PyTorch, for comparison: a whole forward pass with full logits for every candidate.

Speaks lines of JSON. Input: {"command": "open" | "tune" | "run" | "go" | "end", ...}; output: one line per answer. A run stops before each
of its steps and waits for "go", so that two programs can take turns.
"""

import json
import math
import random
import resource
import sys
import time

import torch
import torch.nn.functional as F

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def read_tensors(path):
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            file.seek(8 + size + begin)
            data = bytearray(file.read(end - begin))
            tensors[name] = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"]).float()
        return tensors


class Model:
    def __init__(self, folder, dtype):
        with open(folder + "/config.json") as file:
            self.config = json.load(file)
        config = self.config
        self.dtype = dtype
        self.tensors = {name: tensor.to(dtype) for name, tensor in read_tensors(folder + "/model.safetensors").items()}
        self.blocks = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.key_value_heads = config["num_key_value_heads"]
        self.size = config["hidden_size"] // self.heads
        self.epsilon = config["rms_norm_eps"]
        inverse = 1.0 / config.get("rope_theta", 10000.0) ** (torch.arange(0, self.size, 2).float() / self.size)
        self.inverse = inverse
        self.rotary = {}

    def weight(self, block, name):
        return self.tensors[f"model.layers.{block}.{name}.weight"]

    def norm(self, x, weight):
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)).to(self.dtype)

    def tables(self, tokens):
        if tokens not in self.rotary:
            angles = torch.outer(torch.arange(tokens).float(), self.inverse)
            angles = torch.cat([angles, angles], -1)
            self.rotary[tokens] = (angles.cos().to(self.dtype), angles.sin().to(self.dtype))
        return self.rotary[tokens]

    def rotate(self, x):
        cosine, sine = self.tables(x.shape[-2])
        half = self.size // 2
        return x * cosine + torch.cat([-x[..., half:], x[..., :half]], -1) * sine

    def attention(self, block, x):
        tokens = x.shape[1]

        def heads(name, count):
            return F.linear(x, self.weight(block, "self_attn." + name)).view(1, tokens, count, self.size).transpose(1, 2)

        query = self.rotate(heads("q_proj", self.heads))
        groups = self.heads // self.key_value_heads
        key = self.rotate(heads("k_proj", self.key_value_heads)).repeat_interleave(groups, 1)
        value = heads("v_proj", self.key_value_heads).repeat_interleave(groups, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return F.linear(mixed.transpose(1, 2).reshape(1, tokens, -1), self.weight(block, "self_attn.o_proj"))

    def neurons(self, block, x):
        return F.silu(F.linear(x, self.weight(block, "mlp.gate_proj"))) * F.linear(x, self.weight(block, "mlp.up_proj"))

    def logits(self, ids, without=frozenset(), see_neurons=None, see_state=None):
        x = F.embedding(ids, self.tensors["model.embed_tokens.weight"]).unsqueeze(0)
        if see_state:
            see_state(0, x)
        for block in range(self.blocks):
            if 2 * block not in without:
                x = x + self.attention(block, self.norm(x, self.weight(block, "input_layernorm")))
            if 2 * block + 1 not in without:
                neurons = self.neurons(block, self.norm(x, self.weight(block, "post_attention_layernorm")))
                if see_neurons:
                    see_neurons(block, neurons)
                x = x + F.linear(neurons, self.weight(block, "mlp.down_proj"))
            if see_state:
                see_state(block + 1, x)
        head = self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"])
        return F.linear(self.norm(x, self.tensors["model.norm.weight"]), head)

    def loss(self, ids, without):
        logits = self.logits(ids, without)[:, :-1].float().contiguous()
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), ids[1:]).item()


def round_width(model, sparsity, given=None):
    attention = sum(model.weight(0, f"self_attn.{name}_proj").numel() for name in "qkvo")
    mlp = sum(model.weight(0, f"mlp.{name}_proj").numel() for name in ("gate", "up", "down"))
    total = model.blocks * (attention + mlp + 2 * model.config["hidden_size"])
    removed = given or round(model.blocks * sparsity ** (mlp / attention / 1.5))
    per_mlp = round((round(sparsity * total) - removed * attention) / model.blocks)
    return removed, round(model.config["intermediate_size"] * (1 - per_mlp / mlp))


def two_stage(model, windows, options, turn):
    removed, width = round_width(model, options["sparsity"], options.get("attention"))
    dense = dict(model.tensors)
    yield turn("stage 1")
    sums = [0.0] * model.blocks

    def see(block, neurons):
        sums[block] = sums[block] + neurons[0].norm(dim=0)

    for ids in windows[: options["windows"]]:
        model.logits(ids, see_neurons=see)
    kept = [torch.topk(score, width).indices.sort().values for score in sums]
    for block, index in enumerate(kept):
        for name in ("gate_proj", "up_proj"):
            model.tensors[f"model.layers.{block}.mlp.{name}.weight"] = model.weight(block, "mlp." + name)[index].contiguous()
        down = f"model.layers.{block}.mlp.down_proj.weight"
        model.tensors[down] = model.tensors[down][:, index].contiguous()
    order = []
    without = set()
    for number in range(1, removed + 1):
        yield turn(f"stage 2, round {number}")
        order.append(best_removal(model, windows[0], without, [[2 * block] for block in range(model.blocks)]))
        without.update(order[-1])
    model.tensors = dense
    yield {"kept": [index.tolist() for index in kept], "order": [parts[0] for parts in order]}


def best_removal(model, ids, without, candidates):
    """The first of the candidates with the least loss, among those that are still there."""
    best, least = None, math.inf
    for parts in candidates:
        if parts[0] in without:
            continue
        loss = model.loss(ids, without | set(parts))
        if loss < least:
            best, least = parts, loss
    return best


def similarities(model, windows, count, distance):
    sums = [0.0] * (model.blocks + 1)
    for ids in windows[:count]:
        states = {}

        def see(index, x):
            states[index] = x[0, -1].double()

        model.logits(ids, see_state=see)
        for index in range(model.blocks + 1 - distance):
            sums[index] += F.cosine_similarity(states[index], states[index + distance], dim=0).item() / count
    return sums


def shortgpt(model, windows, options, turn):
    yield turn("similarities")
    influence = [1 - value for value in similarities(model, windows, options["windows"], 1)[: model.blocks]]
    influence[0] = 1
    removed = sorted(range(model.blocks), key=lambda block: influence[block])[: options["blocks"]]
    yield {"removed": sorted(removed)}


def window_based(model, windows, options, turn):
    yield turn("similarities")
    distance = options["blocks"]
    values = similarities(model, windows, options["windows"], distance)[: model.blocks + 1 - distance]
    first = max(range(1, len(values)), key=lambda index: (values[index], index))
    yield {"removed": list(range(first, first + distance))}


def both_similarities(model, windows, options, turn):
    """ShortGPT and then the window-based method, each with a pass of its own."""
    results = []
    for method in (shortgpt, window_based):
        for step in method(model, windows, options, turn):
            if "step" in step:
                yield turn(f"{method.__name__}, {step['step']}")
            else:
                results.append(step["removed"])
    yield {"removed": results}


def blockpruner(model, windows, options, turn):
    order, without = [], set()
    whole = [[2 * block, 2 * block + 1] for block in range(model.blocks)]
    for number in range(1, options["blocks"] + 1):
        yield turn(f"round {number}")
        order.append(best_removal(model, windows[0], without, whole))
        without.update(order[-1])
    yield {"order": [parts[0] for parts in order]}


def blockpruner_submodule(model, windows, options, turn):
    order, without = [], set()
    for number in range(2 * options["blocks"]):
        yield turn(f"round {number + 1}")
        order.append(best_removal(model, windows[0], without, [[2 * block + number % 2] for block in range(model.blocks)]))
        without.update(order[-1])
    yield {"order": [parts[0] for parts in order]}


class Evolution:
    def __init__(self, model, windows, options, whole):
        self.model, self.windows, self.options, self.whole = model, windows[: options["windows"]], options, whole
        self.dense = {}

    def prepare(self):
        for index, ids in enumerate(self.windows):
            self.dense[index] = self.model.logits(ids)

    def draw_state(self):
        blocks = range(self.model.blocks)
        attention = frozenset(random.sample(blocks, self.options["blocks"]))
        mlp = frozenset(random.sample(blocks, self.options["blocks"]))
        return (attention, attention if self.whole else mlp)

    def mutate(self, parent):
        child = [set(parent[0]), set(parent[1])]
        for _ in range(min(random.randint(1, 3), random.randint(1, 3))):
            side = child[0] if random.randint(0, 1) == 0 else child[1]
            removed = self.draw(lambda block: block not in side)
            restored = self.draw(lambda block: block in side)
            side.add(removed)
            side.remove(restored)
        attention = frozenset(child[0])
        return (attention, attention if self.whole else frozenset(child[1]))

    def draw(self, fits):
        while True:
            block = random.randint(0, self.model.blocks - 1)
            if fits(block):
                return block

    def distinct(self, count, taken, make):
        states = []
        while len(states) < count:
            state = make()
            if state not in states and state not in taken:
                states.append(state)
        return states

    def draw_windows(self, count):
        quota, drawn = round(count * len(self.windows[0])), []
        while quota > 0:
            index = random.randint(0, len(self.windows) - 1)
            if index in [other for other, _ in drawn]:
                continue
            drawn.append((index, min(quota, len(self.windows[index]))))
            quota -= drawn[-1][1]
        return drawn

    def fitness(self, state, drawn):
        without = {2 * block for block in state[0]} | {2 * block + 1 for block in state[1]}
        total, tokens = 0.0, 0
        for index, length in drawn:
            own = self.model.logits(self.windows[index][:length], without)[0, :-1]
            dense = self.dense[index][0, : length - 1]
            for first in range(0, length - 1, 1024):
                part = F.kl_div(own[first : first + 1024].log_softmax(-1), dense[first : first + 1024].log_softmax(-1), reduction="none", log_target=True)
                total += part.sum(-1).double().sum().item()
            tokens += length - 1
        return total / tokens

    def select(self, states, drawn, survivors):
        values = [self.fitness(state, drawn) for state in states]
        order = sorted(range(len(states)), key=lambda index: values[index])
        return [states[index] for index in order[:survivors]]


def evolve(model, windows, options, turn, whole):
    random.seed(0)
    search = Evolution(model, windows, options, whole)
    yield turn("dense logits")
    search.prepare()
    states = search.distinct(options["startStates"], [], search.draw_state)
    drawn = search.draw_windows(options["firstWindows"])
    yield turn("generation 0, selection 1")
    parent = search.select(states, drawn, 1)[0]
    history = []
    for number in range(1, options["generations"] + 1):
        children = search.distinct(options["offspring"], [parent], lambda: search.mutate(random.choice([parent])))
        drawn = search.draw_windows(options["firstWindows"])
        yield turn(f"generation {number}, selection 1")
        best = search.select(children, drawn, options["finalists"])
        drawn = search.draw_windows(options["finalWindows"])
        yield turn(f"generation {number}, selection 2")
        parent = search.select(best + [parent], drawn, 1)[0]
        history.append([sorted(parent[0]), sorted(parent[1])])
    yield {"order": history}


def bare_norm(x, width):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).sum(-1, keepdim=True) / width + 1e-5)).to(x.dtype)


class SlicedBlock:
    """A block between bases: norm weights are gone into the projections, shortcuts carry the stream over."""

    def __init__(self, model, block):
        self.model, self.block, self.width = model, block, model.config["hidden_size"]
        norms = {"self_attn": "input_layernorm", "mlp": "post_attention_layernorm"}
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
            self.set(name, model.weight(block, name) * model.weight(block, norms[name.split(".")[0]]))
        self.attention_shortcut, self.mlp_shortcut = None, None

    def set(self, name, weight):
        self.model.tensors[f"model.layers.{self.block}.{name}.weight"] = weight

    def read_through(self, names, rotation, kept):
        for name in names:
            self.set(name, (self.model.weight(self.block, name).double() @ rotation)[:, :kept].to(self.model.dtype).contiguous())

    def write_through(self, name, rotation, kept):
        self.set(name, (rotation.T @ self.model.weight(self.block, name).double())[:kept].to(self.model.dtype).contiguous())

    def attend(self, x):
        return x @ self.attention_shortcut + self.model.attention(self.block, bare_norm(x, self.width))[0]

    def feed_forward(self, x):
        neurons = self.model.neurons(self.block, bare_norm(x, self.width))
        return x @ self.mlp_shortcut + F.linear(neurons, self.model.weight(self.block, "mlp.down_proj"))


def principal_components(streams):
    covariance = 0
    for x in streams:
        x = x.double()
        covariance = covariance + x.T @ x
    covariance += 0.01 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    return torch.linalg.eigh(covariance).eigenvectors.flip(1)


def slicegpt(model, windows, options, turn):
    """Each block runs once for the basis behind its attention and once, sliced so far, for the one behind its MLP."""
    dense = dict(model.tensors)
    yield turn("rotations")
    width = model.config["hidden_size"]
    kept = int((1 - options["sparsity"]) * width)
    kept -= kept % 8
    head = dense.get("lm_head.weight", dense["model.embed_tokens.weight"]) * dense["model.norm.weight"]
    embedding = dense["model.embed_tokens.weight"]
    embedding = embedding - embedding.mean(-1, keepdim=True)
    streams = [F.embedding(ids, embedding) for ids in windows[: options["windows"]]]
    rotation = principal_components(streams)
    embedding = (embedding.double() @ rotation)[:, :kept].to(model.dtype)
    blocks = []
    for index in range(model.blocks):
        block = SlicedBlock(model, index)
        blocks.append(block)
        block.read_through(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], rotation, kept)
        block.attention_shortcut = rotation.T[:kept].to(model.dtype)
        inputs = [(x.double() @ rotation)[:, :kept].to(model.dtype) for x in streams]
        behind = principal_components([block.attend(x[None])[0] for x in inputs])
        block.attention_shortcut = (rotation.T[:kept] @ behind[:, :kept]).to(model.dtype)
        block.write_through("self_attn.o_proj", behind, kept)
        block.mlp_shortcut = behind.T[:kept].to(model.dtype)
        block.read_through(["mlp.gate_proj", "mlp.up_proj"], behind, kept)
        streams = [block.feed_forward(block.attend(x[None]))[0] for x in inputs]
        rotation = principal_components(streams)
        if index < model.blocks - 1:
            block.mlp_shortcut = (behind.T[:kept] @ rotation[:, :kept]).to(model.dtype)
            block.write_through("mlp.down_proj", rotation, kept)
    x = F.embedding(windows[0], embedding)[None]
    for block in blocks:
        x = block.feed_forward(block.attend(x))
    logits = F.linear(bare_norm(x[0], width), head)[:-1].float()
    model.tensors = dense
    yield {"width": kept, "loss": F.cross_entropy(logits, windows[0][1:]).item()}


METHODS = {
    "2ssp": two_stage,
    "shortgpt": shortgpt,
    "window_based": window_based,
    "shortgpt+window_based": both_similarities,
    "slicegpt": slicegpt,
    "blockpruner": blockpruner,
    "blockpruner_submodule": blockpruner_submodule,
    "evopress": lambda *given: evolve(*given, whole=True),
    "evopress_submodule": lambda *given: evolve(*given, whole=False),
}


def answer(**values):
    print(json.dumps(values), flush=True)


def commands():
    for line in sys.stdin:
        yield json.loads(line)


def run(model, windows, request, inbox):
    """Each step begins with a "go" and ends where the next one is about to begin."""
    steps = METHODS[request["method"]](model, windows, request["options"], lambda name: {"step": name})
    current = next(steps)
    while "step" in current:
        answer(waiting=current["step"])
        next(inbox)
        start = time.perf_counter()
        following = next(steps)
        answer(step=current["step"], seconds=time.perf_counter() - start)
        current = following
    answer(result=current, peakBytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def tune(model, ids, most):
    """Seconds of a dense pass with 1 to `most` threads; the best number stays set."""
    seconds = {}
    for threads in range(1, most + 1):
        torch.set_num_threads(threads)
        model.logits(ids)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            model.logits(ids)
            times.append(time.perf_counter() - start)
        seconds[threads] = min(times)
    best = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(best)
    return best, seconds


def main():
    inbox = commands()
    model, windows = None, None
    with torch.inference_mode():
        for request in inbox:
            command = request["command"]
            if command == "open":
                model = Model(request["model"], getattr(torch, request.get("precision", "float32")))
                with open(request["windows"]) as file:
                    windows = [torch.tensor(ids) for ids in json.load(file)]
                answer(title=f"PyTorch {torch.__version__}")
            elif command == "tune":
                threads, seconds = tune(model, windows[0], request["threads"])
                answer(threads=threads, seconds=seconds)
            elif command == "run":
                run(model, windows, request, inbox)
            elif command == "end":
                return


main()
