# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent elf FILE [ADDR…]`: what is known of an ELF file, and of addresses in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile
    from otelagent.symbolize.native import NativeSymbols
    from otelagent.unwind.rows import RowTable


def elf(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An ELF file.")],
    addresses: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDR]...", help="ELF addresses, as in `readelf -s` (hex)."),
    ] = None,
) -> None:
    """Show the identity of a file, where its unwind rows come from, and what holds at addresses."""
    from otelagent.errors import BadElf  # noqa: PLC0415 (imports are lazy)
    from otelagent.formats.elf import ElfFile  # noqa: PLC0415
    from otelagent.host.files import open_file  # noqa: PLC0415
    from otelagent.symbolize.native import NativeSymbols  # noqa: PLC0415
    from otelagent.unwind.extract import extract  # noqa: PLC0415
    from otelagent.unwind.file_id import file_id  # noqa: PLC0415

    wanted = [_parse_address(text) for text in addresses or ()]
    with open_file(file) as source:
        try:
            parsed = ElfFile(source)
        except BadElf as err:
            raise BadElf(f"{file}: {err}") from err
        typer.echo(f"FileID       {file_id(source).hex()}")
        typer.echo(f"build id     {parsed.build_id or 'none'}")
        if parsed.go_build_id:
            typer.echo(f"Go build id  {parsed.go_build_id}")
        table = extract(parsed)
        _print_table(table)
        symbols = NativeSymbols.open(source, file)
        for address in wanted:
            _print_address(parsed, table, symbols, address)
        symbols.close()


def _parse_address(text: str) -> int:
    """Read a hexadecimal address, with or without 0x."""
    from otelagent.errors import ConfigError  # noqa: PLC0415

    try:
        return int(text, 16)
    except ValueError:
        raise ConfigError(f"{text!r} is not a hexadecimal address") from None


def _print_table(table: RowTable) -> None:
    size = len(table.pages) + len(table.rows) + len(table.rules)
    pages = len(table.pages) // 12
    typer.echo(
        f"unwind rows  {table.row_count:,} in {pages:,} pages, {table.rule_count:,} rules, "
        f"{size:,} bytes"
    )
    for source in table.sources or ("no information: only frame pointers can help",):
        typer.echo(f"  {source}")


def _print_address(parsed: ElfFile, table: RowTable, symbols: NativeSymbols, address: int) -> None:
    from otelagent.unwind.describe import describe_row  # noqa: PLC0415

    typer.echo(f"{address:#x}")
    named = symbols.name(address, is_return_address=False)
    for line in named.lines:
        place = f" ({line.function.file}:{line.line})" if line.function.file else ""
        typer.echo(f"  function     {line.function.name}{place}")
    if not named.lines:
        typer.echo(f"  function     none: {named.reason}")
    typer.echo(f"  unwinding    {describe_row(table, address, parsed.machine)}")
