"""Adapt a head to a domain without labels, or with few.

A method takes the domains, makes the space in which they are compared (`spaces`) or the weights of the sources' samples
(`reweighting`), fits a layer there (`source_only`, `infomax`, `adapters`) and folds it into a linear head for vectors
as they are. `adaptation.adapt` is the entry; `gate` chooses the method.
"""
