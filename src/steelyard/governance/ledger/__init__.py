"""Budgets and cost: an append-only, double-entry ledger of GPU-seconds and money.

Three accounts a project: `allowance` is where all comes from, `reserved` holds what jobs that are not over
may still use, `spent` what was used, by day and flavor. A transaction moves amounts between them and sums to
zero; its id says what it is for, so that making it again changes nothing. `postings`, `meters`, `periods`,
`standing`, `demand` and `forecast` are pure; `repository` holds the SQL; `accounting` is what services of
the layers above call inside their own transactions.
"""
