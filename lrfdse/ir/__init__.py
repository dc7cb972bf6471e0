"""The nouns that every package shares: frozen, slotted, one subject a module, free of heavy imports.

Notation, as in the tensor-train literature: a layer computes ``y = W x + b`` with ``W`` of shape
``(M, N) = (outputs, inputs)``. A factorization splits ``M = m_1 ... m_d`` and ``N = n_1 ... n_d``; core ``k`` has shape
``(r_{k-1}, m_k, n_k, r_k)`` with ``r_0 = r_d = 1``; both index sets are row-major. A MAC is one multiplication and one
addition; a FLOP count is twice a MAC count.
"""
