"""Evaluation: suites, results with their intervals, and the evidence that gates are judged by."""
