"""A drug in a body: how it gets in, where the blood carries it, how it leaves.

- `absorption`: doses and how they enter (by mouth, by vein).
- `physiology`: an adult of the library, with the flows of a patient's arteries and the bed beyond a lesion.
- `partition`: levels in tissue over plasma from what tissue is made of.
- `elimination`: the well-stirred organ.
- `body_model`: all of it as one linear system, solved exactly by the matrix exponential.
- `exposure`: the numbers that describe a curve.

kg, m^3 and s throughout; a concentration in kg/m^3 is one in g/L.
"""
