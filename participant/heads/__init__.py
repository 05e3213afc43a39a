"""Step 15 of the walk: a member's own linear head on a frozen release. Exact, private, stays (clause 2.6).

embed.py      records → embeddings through a frozen extractor, streamed
fit.py        multinomial logistic regression on embeddings      (fit_head)
head.py       what a head is, what it predicts, what it refuses  (Head)
accuracy.py   held-out accuracy with its interval
store.py      heads/<name>/head.json and head.safetensors
"""
