"""What is drawn of messages that were read back, in memory that does not grow with the log.

`eliot_etw.parse` gives whole tasks as values, and needs room for each whole task. A viewer must
show a log of any size, tasks that never end, and a single task of millions of messages. So here a
task is a stream of messages sorted by level, which is the order in which its tree is drawn:

`_forest` gathers messages until a task is finished, and puts on disk what is too much to hold;
`_nodes` goes through the sorted messages of a task backwards, so that when it comes to the start
of an action it knows its end and all within; `_select` decides which nodes are shown; `_tree` and
`_tree_json` write them, forwards.
"""
