"""Datasets: from raw files to clean, immutable versions. No database, no HTTP and no torch in the engine.

    ingest.ingest_files(inputs, name, spec=None, *, store_root, work_root=None, workers=None,
                        evaluation_sets=None, stdin=None, watch=None) -> versions.Published
        files, folders, globs, `-`, `s3://`, `hf://` -> version N of `name` in a catalogue of files.
        `Published` has `ref` (`name@vN`), `version`, `manifest` (a `specs.datasets.VersionManifest` with
        `digest`, `format`, `rows_in`, `rows_kept`, `rows_train`, `rows_validation`, `stages`, `shards`),
        `created`, and `view()` for JSON.
    ingest.build_version(ingest.Request(...), watch) -> build.Built
        the same without a name: `Built.manifest` is complete, its shards are in the store, and nothing
        refers to them yet. A catalogue of another kind (the database) gives it its number.
    export.export_jsonl(manifest, split, out, *, store_root) -> int
        rows of "train", "validation" or None (all) as JSON Lines in TRL's canonical columns.
    export.head(manifest, count, *, store_root, split=None) -> list of rows

All are synchronous and use every core; in a server they run in a process of their own or in a thread.
"""
