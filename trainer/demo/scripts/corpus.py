"""Training text from the standard library of the Python that runs this.

Every function, method and class with a docstring becomes one example: its
source without the docstring, and the docstring. Nothing is downloaded, and
one Python version always gives the same rows in the same order.
"""

import ast
import hashlib
import json
import sysconfig
import textwrap
from pathlib import Path

# Tests and vendored tools repeat themselves; site-packages is not the library.
SKIPPED = {
    "__pycache__", "config", "ensurepip", "idle_test", "idlelib", "lib2to3",
    "pydoc_data", "site-packages", "test", "tests", "turtledemo",
}
LONGEST = 1200  # characters of source and docstring: seven in eight, and short enough for a demo on two cores
TASK = "Write the docstring of this Python code."
SYSTEM = "You document Python code."


class Example:
    def __init__(self, code, doc, source):
        self.code, self.doc, self.source = code, doc, source
        self.order = hashlib.sha256((code + "\0" + doc).encode()).hexdigest()

    def prompt(self):
        return f"{TASK}\n\n{self.code}"

    def text(self):
        return {"text": self.source}

    def completions(self):
        return {"prompt": self.prompt(), "completion": self.doc}

    def chat(self):
        return {"messages": [
            {"role": "user", "content": self.prompt()},
            {"role": "assistant", "content": self.doc},
        ]}

    def chat_system(self):
        chat = self.chat()
        chat["messages"].insert(0, {"role": "system", "content": SYSTEM})
        return chat


def collect(limit):
    """Return examples in hash order, which shuffles the modules; limit 0 takes
    the whole library, another limit the first files that hold so many."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if any(p in SKIPPED or p.startswith("config-") for p in parts):
            continue
        for example in _examples(path):
            found.setdefault(example.order, example)
        if limit and len(found) >= limit:
            break
    examples = sorted(found.values(), key=lambda e: e.order)
    return examples[:limit] if limit else examples


def _examples(path):
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError):
        return  # the library ships a few broken files as test material
    lines = text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        doc = ast.get_docstring(node, clean=True)
        if not doc or len(doc) < 16:
            continue
        literal = node.body[0]
        first = min([node.lineno] + [d.lineno for d in node.decorator_list]) - 1
        head = lines[first:literal.lineno - 1]
        # A class is its head alone: its methods are examples of their own.
        last = literal.end_lineno if isinstance(node, ast.ClassDef) else node.end_lineno
        body = lines[literal.end_lineno:last]
        code = textwrap.dedent("\n".join(head + body)).rstrip()
        source = textwrap.dedent("\n".join(lines[first:last])).rstrip()
        if len(code) >= 8 and len(code) + len(doc) <= LONGEST:
            yield Example(code, doc, source)


def split(examples):
    """Cut 1/20 each for validation and test, at least 32 rows."""
    held = max(32, len(examples) // 20)
    return {
        "train": examples[2 * held:],
        "valid": examples[:held],
        "test": examples[held:2 * held],
    }


def write(splits, directory):
    """Write every split in every format that mlx-lm reads."""
    for name in ("completions", "chat", "chat_system", "text"):
        folder = directory / name.replace("_", "-")
        folder.mkdir(parents=True)
        for part, rows in splits.items():
            with open(folder / f"{part}.jsonl", "w", encoding="utf-8", newline="\n") as f:
                for row in rows:
                    f.write(json.dumps(getattr(row, name)(), ensure_ascii=False) + "\n")
