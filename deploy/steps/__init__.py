"""The steps of the document: one small frozen class each, a question and an action."""
