"""The contract of verbs and doors for import-linter: what a person starts is imported by nothing beside it."""

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck


class DoorsContract(Contract):
    """No module of the packages imports a module at the root of one of them; the list of those is found, not written.

    `packages`: their root modules are verbs (`tasks.embed`) or doors (`flows.retrain`).
    """

    type_name = "doors"

    packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        inside = {module for package in self.packages for module in {package, *graph.find_descendants(package)}}
        doors = {
            child
            for package in self.packages
            for child in graph.find_children(package)
            if not graph.find_children(child)
        }
        imports = sorted(
            (importer, door) for door in doors for importer in graph.find_modules_that_directly_import(door) & inside
        )
        return ContractCheck(kept=not imports, metadata={"imports": imports})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, door in check.metadata["imports"]:
            output.print_error(f"{importer} imports {door}: move what it needs into a room", bold=False)
