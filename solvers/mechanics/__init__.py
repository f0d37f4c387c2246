"""Solids at rest under load: large deformations, nearly incompressible.

A `Body` is a shape with a law; `equilibrium.solve` finds its shape under
`Loads`; `prestress.solve` goes the other way, from the shape under load to the
one without; `cycle.solve` takes an imaged wall through both. Displacement is
quadratic and pressure linear on curved quadratic tetrahedra (Taylor-Hood): it
does not lock. `stress` reads stresses from either.
"""
