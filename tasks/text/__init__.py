"""Text as a modality, a room of the shape of `tasks.images`.

`decode` turns bytes into a text or names their defect; `transform` turns a text into the token ids that an encoder
takes; `alterations` makes copies that keep the label; `shingle_hash` finds near-duplicates.
"""
