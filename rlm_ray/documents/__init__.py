"""Files of any kind as texts: their formats, their encodings, folders of them.

What is more than plain text is read in a process of its own, which holds no key and cannot open anything (`worker`).
"""
