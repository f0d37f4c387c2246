"""Laws of matter, one per file. A tissue offers `strain_energy(C, fibres)`; its stress is the derivative.

The energy is of the isochoric part only, a function of C / J^(2/3): the change
of volume is the pressure field's, in `mechanics`. Energies are written in UFL;
`library.artery_wall.law(name)` gives them with published parameters.
"""
