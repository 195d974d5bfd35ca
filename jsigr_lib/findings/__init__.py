"""Tables in, sentences out: what a run found, in Markdown, its words chosen by its numbers.

A module per notebook, and `words`, which all of them share. A function gets tables as they are saved (and, where it
names defences, a mapping defence -> label) and says what they say: the finding, the number, how sure. What a table
lacks is left out.
"""
