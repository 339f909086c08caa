"""Tasks of lm-evaluation-harness on local questions, answered by a server that speaks OpenAI's API.

    python harness.py JOB.json
"""
import json
import os
import sys
from pathlib import Path

import datasets
import lm_eval
import yaml
from lm_eval.tasks import TaskManager

with open(sys.argv[1]) as file:
    job = json.load(file)
os.environ['OPENAI_API_KEY'] = job['key']
datasets.disable_progress_bars()
# An index of these tasks alone: that of all takes seconds to read.
folders = [str(Path(lm_eval.__file__).parent / 'tasks' / task) for task in job['tasks']]
manager = TaskManager(include_path=folders, include_defaults=False)
for task, (split, path) in job['tasks'].items():
    # The harness's own task, with nothing changed except where its questions come from.
    local = {
        'include': str(manager.task_index[task].yaml_path),
        'task': f'local_{task}',
        'dataset_path': 'json',
        'dataset_name': None,
        'dataset_kwargs': {'data_files': {split: path}},
        **dict.fromkeys(['training_split', 'validation_split', 'test_split', 'fewshot_split']),
        f'{split}_split': split,
    }
    with open(os.path.join(job['folder'], f'local_{task}.yaml'), 'w') as out:
        yaml.safe_dump(local, out)
found = lm_eval.simple_evaluate(
    model='local-completions',
    model_args={'model': job['model'], 'base_url': job['address'], 'tokenizer': job['tokenizer'], 'max_length': job['length']},
    tasks=[f'local_{task}' for task in job['tasks']],
    task_manager=TaskManager(include_path=job['folder'], include_defaults=False),
    batch_size=32,
    bootstrap_iters=0,
)
print('ANSWER', json.dumps({task: found['results'][f'local_{task}'] for task in job['tasks']}, default=str), flush=True)
