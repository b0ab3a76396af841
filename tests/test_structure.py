"""No two source files of a crate import each other, directly or through other files.

A file imports another one if it names one of its items: in a `use`, or in a path such as `crate::clock::now()`.

- Declaring `mod child;` is not an import. Using an item of the child is one (`use child::Item`, `child::item()`), and then a
  child that uses an item of its parent (`use super::Item`) closes a circle.
- A path counts as an import of the file that it names. `use crate::Item` imports `lib.rs`, even if that only re-exports it.
- Tests in a file, and files that exist only for tests, may import any file and are not checked.
"""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Crates without circles. Add a crate here once it has none.
CRATES = ["function/src", "simulator/src"]

NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|'(?:\\[^']+|[^'\\])'""", re.DOTALL
)


class Crate:
    """The module files of a crate, and the items that each imports from the others."""

    def __init__(self, root):
        self.root = root
        # From a module path, such as ("call", "session"), to its file and to its code.
        self.files = {}
        self.code = {}
        self._add((), root / "lib.rs", root)
        self.imports = {module: self._imports_of(module) for module in self.files}

    def _add(self, module, file, folder):
        code = NO_CODE.sub('""', file.read_text())
        code = re.sub(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod \w+ \{.*", "", code, flags=re.DOTALL)
        code = re.sub(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod \w+;", "", code)
        self.files[module], self.code[module] = file, code
        for child in re.findall(r"\bmod (\w+);", code):
            beside, below = folder / f"{child}.rs", folder / child / "mod.rs"
            self._add((*module, child), beside if beside.exists() else below, folder / child)

    def _imports_of(self, module):
        """From each imported module to the names of its items that this module uses."""
        code, found = self.code[module], {}
        paths = [path for tree in re.findall(r"\buse\s+([^;]+);", code) for path in leaves(tree)]
        elsewhere = re.sub(r"\buse\s+[^;]+;", "", code)
        children = [other[-1] for other in self.files if other and other[:-1] == module]
        starts = "|".join(["crate", "super", "self", *children])
        paths += [path.split("::") for path in re.findall(rf"(?<![\w:])((?:{starts})(?:::\w+)+)", elsewhere)]
        for path in paths:
            target, name = self._resolve(module, path)
            if target is not None and target != module:
                found.setdefault(target, set()).add(name)
        return found

    def _resolve(self, module, path):
        """The module that contains a path's item, and the name of the item, or of the module if the path ends there."""
        path = list(path)
        at = module
        if path[0] == "crate":
            at, path = (), path[1:]
        elif path[0] == "self":
            path = path[1:]
        elif path[0] == "super":
            while path and path[0] == "super":
                at, path = at[:-1], path[1:]
        elif (*at, path[0]) not in self.files:
            return None, None
        while path and (*at, path[0]) in self.files:
            at, path = (*at, path[0]), path[1:]
        return at, path[0] if path else (at[-1] if at else "crate")

    def circles(self):
        """One sentence for each circle of imports: the shortest circle through each file."""
        sentences, seen = [], set()
        for start in sorted(self.files):
            circle = self._shortest_circle(start)
            if circle and not seen & set(circle):
                seen |= set(circle)
                ties = [
                    f"{self._name(one)} imports {', '.join(sorted(self.imports[one][other]))} from {self._name(other)}"
                    for one, other in zip(circle, [*circle[1:], circle[0]], strict=True)
                ]
                sentences.append("; ".join(ties))
        return sentences

    def _shortest_circle(self, start):
        ways = [[start]]
        reached = set()
        while ways:
            longer = []
            for way in ways:
                for other in sorted(self.imports[way[-1]]):
                    if other == start:
                        return way
                    if other not in reached:
                        reached.add(other)
                        longer.append([*way, other])
            ways = longer
        return None

    def _name(self, module):
        return self.files[module].relative_to(self.root).as_posix()


def leaves(tree):
    """The paths of a `use` tree, such as `a::{b, c::d}`."""
    tree = re.sub(r"\s+as\s+\w+", "", tree).strip()
    before, brace, inside = tree.partition("{")
    if not brace:
        return [[part.strip() for part in tree.split("::") if part.strip() not in ("", "*")]]
    start = [part.strip() for part in before.split("::") if part.strip()]
    branches, depth, branch = [], 0, ""
    for sign in inside[: inside.rindex("}")]:
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            branches, branch = [*branches, branch], ""
        else:
            branch += sign
    ends = [end for branch in [*branches, branch] if branch.strip() for end in leaves(branch)]
    return [start + ([] if end == ["self"] and start else end) for end in ends]


@pytest.mark.parametrize("crate", CRATES)
def test_no_file_imports_itself_through_other_files(crate):
    checked = Crate(ROOT / crate)
    assert len(checked.files) > 5
    assert sum(map(len, checked.imports.values())) > 5
    circles = checked.circles()
    assert not circles, "\n".join(circles)


@pytest.fixture
def circles(tmp_path):
    def of(**files):
        for name, text in files.items():
            file = tmp_path / (name.replace("__", "/") + ".rs")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Crate(tmp_path).circles()

    return of


def test_a_chain_of_imports_is_not_a_circle(circles):
    lib = "pub mod a;\nmod b;\nmod c;\n"
    assert circles(lib=lib, a="use crate::b::B;", b="use crate::c;\npub struct B;", c="use std::fmt;") == []


def test_a_circle_of_two_is_reported_with_files_and_items(circles):
    a = "use crate::{b::{One, Two as Second, three}, c};\npub struct A;"
    found = circles(lib="mod a;\nmod b;\nmod c;", a=a, b="fn b() -> crate::a::A { A }", c="")
    assert found == ["a.rs imports One, Two, three from b.rs; b.rs imports A from a.rs"]


def test_a_circle_of_three_is_reported_in_order(circles):
    found = circles(lib="mod a;\nmod b;\nmod c;", a="use crate::b;", b="use super::c::{self, C};", c="use crate::a::A;")
    assert found == ["a.rs imports b from b.rs; b.rs imports C, c from c.rs; c.rs imports A from a.rs"]


def test_each_circle_is_reported_once(circles):
    lib = "mod a;\nmod b;\nmod c;\nmod d;"
    found = circles(lib=lib, a="use crate::b::B;", b="use crate::a::A;", c="use crate::d::D;", d="use crate::c::C;")
    assert len(found) == 2


def test_a_parent_and_its_child_are_a_circle_if_each_uses_the_other(circles):
    lib, parent = "mod a;", "mod child;\npub use child::Child;\nfn a() { child::start() }\npub struct Parent;"
    assert circles(lib=lib, a__mod=parent, a__child="pub struct Child;") == []
    expected = "a/mod.rs imports Child, start from a/child.rs; a/child.rs imports Parent from a/mod.rs"
    assert circles(lib=lib, a__mod=parent, a__child="use super::Parent;") == [expected]
    assert circles(lib=lib, a__mod=parent, a__child="use crate::a::Parent;") == [expected]


def test_declaring_a_child_is_not_an_import(circles):
    assert circles(lib="mod a;", a__mod="mod child;\npub struct Parent;", a__child="use super::Parent;") == []


def test_siblings_can_be_a_circle(circles):
    found = circles(lib="mod a;", a__mod="mod b;\nmod c;", a__b="use super::c::C;", a__c="use crate::a::b::B;")
    assert found == ["a/b.rs imports C from a/c.rs; a/c.rs imports B from a/b.rs"]


def test_comments_strings_and_tests_are_not_imports(circles):
    a = """
        // use crate::b::B;
        /* crate::b::B */
        const TEXT: &str = "use crate::b::B; crate::b::B";
        const RAW: &str = r#"crate::b::"B""#;
        fn quote<'a>(text: &'a str) -> bool { text.contains('"') }
        #[cfg(test)]
        mod tests {
            use crate::b::B;
        }
    """
    assert circles(lib="mod a;\nmod b;\n#[cfg(test)]\nmod c;", a=a, b="use crate::a::A;") == []


def test_an_external_crate_with_a_module_name_is_not_a_module(circles):
    assert circles(lib="mod a;\nmod http;", a="use http::Method;\npub struct A;", http="use crate::a::A;") == []
