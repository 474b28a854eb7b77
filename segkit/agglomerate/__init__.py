"""Agglomeration: from fragments to segments, by merging the pair that most surely belongs together.

All backends follow one definition:

- The *contact* of two clusters is the set of all affinity edges (any offset of the neighborhood) between them. Two
  clusters are neighbours if their contact is not empty.
- The *score* of a contact is 1 - a statistic of its affinities: mean, max, min, median or another quantile. 0 = surely
  the same neuron.
- While there are neighbours, those with the lowest score are merged. The contacts of both with a common neighbour are
  united and scored anew. A threshold ends nothing: the tree is complete, and is cut later.
- Ties go to the contact that holds the lowest edge of the region adjacency graph, the edges being in lexicographic
  order of the fragment ids. So equal graphs give equal trees, and so do ids renumbered in the same order. (A tie rule
  that looked at the ids of the growing clusters would change the place of all their contacts in the queue at each
  merge, and cost quadratic time.)

A score of 0.4 for "mean" says that the affinities of the whole contact average 0.6, whatever the history of the
clusters: J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450. The principle of merging regions by a queue of edges:
P. Salembier and L. Garrido 2000, doi:10.1109/83.841934.
"""
