"""PyTorch's side of the recovery benchmark: the same training in plain PyTorch, with bfloat16 products by autocast. Answers line by line."""
import json, resource, sys, time
import torch, torch.nn.functional as F


def answer(**values): print(json.dumps(values), flush=True)


class Training:
    """A pruned Llama shape with seeded weights; head and embedding are frozen."""

    def __init__(self, shape):
        self.__dict__.update(shape)
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        D, hd = self.hidden, self.hidden // self.heads
        make = lambda *size: (torch.randn(*size) * size[-1] ** -.5).requires_grad_(True)
        one = lambda: torch.ones(D, requires_grad=True)
        self.parts = []
        for attention in self.attention:
            if attention:
                self.parts.append(('attention', one(), make((self.heads + 2 * self.keyValueHeads) * hd, D), make(D, self.heads * hd)))
            self.parts.append(('mlp', one(), make(self.neurons, D), make(self.neurons, D), make(D, self.neurons)))
        self.final = one()
        self.embedding = torch.randn(self.vocabulary, D) * .02
        self.head = self.embedding.bfloat16()
        self.weights = [w for part in self.parts for w in part[1:]] + [self.final]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-5, betas=(.9, .95), weight_decay=0., fused=True)
        inverse = 10000. ** (-torch.arange(0, hd, 2) / hd)
        angles = torch.outer(torch.arange(self.tokens), inverse).repeat(1, 2)
        self.cosine, self.sine = angles.cos(), angles.sin()

    def norm(self, x, weight): return F.rms_norm(x, (self.hidden,), weight, 1e-5)

    def rotate(self, x):
        a, b = x.chunk(2, -1)
        return x * self.cosine + torch.cat([-b, a], -1) * self.sine

    def attend(self, x, qkv, output):
        hd = self.hidden // self.heads
        heads = F.linear(x, qkv).view(x.shape[0], self.tokens, -1, hd).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.keyValueHeads, self.keyValueHeads], 1)
        mixed = F.scaled_dot_product_attention(self.rotate(q).to(v.dtype), self.rotate(k).to(v.dtype), v, is_causal=True, enable_gqa=True)
        return F.linear(mixed.transpose(1, 2).flatten(2), output)

    def states(self, ids):
        h = self.embedding[ids]
        with torch.autocast('cpu', torch.bfloat16):
            for kind, norm, *own in self.parts:
                x = self.norm(h, norm)
                h = h + (self.attend(x, *own) if kind == 'attention' else F.linear(F.silu(F.linear(x, own[0])) * F.linear(x, own[1]), own[2]))
        return self.norm(h.float(), self.final).flatten(0, 1)

    def head_loss(self, own, dense, rows):
        """The divergence and its gradient, 256 rows at a time, as no matrix of all logits should exist."""
        gradient, total = torch.empty_like(own), 0.
        with torch.no_grad():
            for i in range(0, own.shape[0], 256):
                a = F.log_softmax((dense[i:i + 256].bfloat16() @ self.head.T).float(), -1)
                b = F.log_softmax((own[i:i + 256].bfloat16() @ self.head.T).float(), -1)
                p = a.exp()
                total += float((p * (a - b)).sum())
                gradient[i:i + 256] = ((b.exp_().sub_(p)).mul_(1 / rows)).bfloat16() @ self.head
        return total, gradient

    def make_batches(self):
        """Random ids and dense states: a training reads both."""
        one = lambda: (torch.randint(0, self.vocabulary, (self.windows, self.tokens)), torch.randn(self.windows * self.tokens, self.hidden))
        return [one() for _ in range(self.batches)]

    def step(self, batches):
        rows, total = self.windows * self.batches * self.tokens, 0.
        for ids, dense in batches:
            states = self.states(ids)
            loss, gradient = self.head_loss(states.detach(), dense, rows)
            states.backward(gradient)
            total += loss
        torch.nn.utils.clip_grad_norm_(self.weights, 1.)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total / rows


training = None
for line in sys.stdin:
    request = json.loads(line)
    if request['command'] == 'end': break
    if request['command'] == 'open':
        training = Training(request['shape'])
        answer(title=f'PyTorch {torch.__version__}', weights=sum(w.numel() for w in training.weights))
    else:
        batches = training.make_batches()
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.time()
        loss = training.step(batches)
        after = resource.getrusage(resource.RUSAGE_SELF)
        answer(seconds=time.time() - start, processor=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, loss=loss)
