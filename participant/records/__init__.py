"""A member's own records: found, checked once, split, cached, drawn. Nothing in this room leaves the machine.

    add.py       scan a source and make a data set of it            (add_data_set)
    dataset.py   open, list and declare the size of data sets       (DataSet, open_data_set)
    reader.py    step 3 of the walk: Poisson draw and batches       (RecordReader)
    cache.py     pixels of the whole data set on disk, built once
    choose.py, source.py, folders.py, parquet.py, texts.py, tables.py   the four forms of source
    scan.py, digests.py      every record is decoded once; what cannot be is listed with its reason
    index.py, split.py, overlap.py   one line a record; held out by keyed hash; no second budget

A data set is immutable once added, because its ledger runs for life.
"""
