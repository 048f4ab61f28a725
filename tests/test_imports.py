"""The tree is the architecture: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ROOT / "services"

TRANSPORT = {
    "extproc/health.py",
    "extproc/lifecycle.py",
    "extproc/main.py",
    "extproc/server.py",
    "extproc/servicer.py",
    "extproc/tls.py",
    "epp/accesslog.py",
    "epp/eds.py",
    "safety/providers/contract.py",
}
"""The files that speak gRPC."""

WIRE = {"extproc/wire.py", "epp/accesslog.py", "safety/providers/contract.py"}
"""The files that know generated protobuf."""

FORBIDDEN = {
    "bbr": {"services.safety", "services.epp", "tools"},
    "safety": {"services.bbr", "services.epp", "tools"},
    "epp": {"services.bbr", "services.safety", "tools"},
    "extproc": {"services.bbr", "services.safety", "services.epp", "services.openai", "tools"},
    "openai": {
        "services.bbr",
        "services.safety",
        "services.epp",
        "services.extproc",
        "tools",
        "asyncio",
        "logging",
    },
    "tokens": {"services.bbr", "services.safety", "services.epp", "tools"},
    "epp/scheduling": {"asyncio", "logging", "structlog", "aiohttp", "grpc", "prometheus_client", "time"},
    **{
        f"epp/state/{name}.py": {"asyncio", "logging", "structlog", "redis", "prometheus_client", "time"}
        for name in ("wire", "reading", "writing", "outbox", "inbox", "share", "lag")
    },
    "epp/cost": {"asyncio", "logging", "structlog", "aiohttp", "grpc", "prometheus_client", "time"},
}

PURE = (
    "epp/kvevents/index.py",
    "epp/kvevents/stream.py",
    "epp/kvevents/wire.py",
    "tokens/memory.py",
    "tokens/prompts.py",
)
"""Cores that stand beside their transport."""


def modules() -> list[Path]:
    return [path for path in sorted(SERVICES.rglob("*.py")) if "pb" not in path.relative_to(SERVICES).parts]


def imports(path: Path) -> set[str]:
    """Every dotted name that `path` imports, at any depth of the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reaches(names: set[str], package: str) -> set[str]:
    return {name for name in names if name == package or name.startswith(package + ".")}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_package_imports_only_what_the_design_allows(folder):
    """The services know nothing of each other, and pure code imports no I/O."""
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if path.is_relative_to(SERVICES / folder)
        for package in FORBIDDEN[folder]
        for name in reaches(imports(path), package)
    }
    assert found == set()


@pytest.mark.parametrize("core", PURE)
def test_a_core_beside_its_transport_knows_no_io(core):
    """Time and messages are handed in."""
    for package in ("asyncio", "logging", "structlog", "aiohttp", "zmq", "time", "tokenizers"):
        assert not reaches(imports(SERVICES / core), package)


@pytest.mark.parametrize(("package", "allowed"), [("grpc", TRANSPORT), ("services.pb", WIRE)])
def test_the_wire_stays_at_the_edge(package, allowed):
    """Only a few files know gRPC and generated protobuf."""
    users = {str(path.relative_to(SERVICES)) for path in modules() if reaches(imports(path), package)}
    assert users <= allowed


def test_no_module_is_longer_than_four_hundred_lines():
    """A file that long hides two ideas."""
    long = {str(path.relative_to(ROOT)) for path in modules() if len(path.read_text().splitlines()) > 400}
    assert long == set()
