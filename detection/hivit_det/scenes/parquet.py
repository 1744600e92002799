"""The targets of all scenes in one table, as Parquet."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from saratrx.files import refused_if_unwritable, write_bytes


def write_parquet(path: Path, tables: Mapping[Path, Path]) -> int:
    """Write the rows of the scenes' CSV files, in their order, each with `scene`, the scene's path, before it.

    Args:
        path: of the Parquet file.
        tables: the CSV file of each scene, all with the same columns.

    Returns:
        The number of rows.

    Raises:
        InputError: if the file cannot be written.

    """
    import pyarrow as pa  # noqa: PLC0415 -- of the extra `parquet`
    from pyarrow import csv, parquet  # noqa: PLC0415

    parts = []
    for scene, table in tables.items():
        names = table.read_text(encoding="utf-8").partition("\n")[0].split(",")
        types = {name: pa.string() if name == "class" else pa.float64() for name in map(str.strip, names)}
        rows = csv.read_csv(
            table,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=types),
        )
        text = str(scene).encode(errors="backslashreplace").decode()  # a name need not be UTF-8
        parts.append(rows.add_column(0, "scene", pa.array([text] * len(rows), pa.string())))
    whole = pa.concat_tables(parts)
    content = BytesIO()
    parquet.write_table(whole, content)
    with refused_if_unwritable(path):
        write_bytes(path, content.getvalue())
    return len(whole)
