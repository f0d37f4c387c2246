"""Blood flow at three depths on one set of boundary conditions, and the heart that drives it.

- `pulse`, `windkessel`: a periodic inflow, and what follows an outlet; both models take the same.
- `circuit`: segments, nodes and Windkessels as one differential-algebraic system, solved until it repeats (0D).
- `lesion_flow`: steady flow through a narrowing by its own shape, and the loss fitted to it.
- `network`: a vessel tree as a circuit, a lesion with its loss, clinical numbers.
- `outlets`: published or measured targets, and Windkessels tuned to them on a network.
- `pulse_wave`: area, flow and pressure along elastic vessels (1D), `pulse_wave_tree` builds them from a traced tree,
  `pulse_wave_kernels` are its compiled loops.
- `navier_stokes`: the 3D flow, one step; `taylor_hood`, `cells`, `poisson`, `wall_shear` and
  `kernels` are its elements, mesh, pressure system, shear and compiled loops.
- `closed_loop`, `heart`, `baroreflex`: four chambers, four valves and the beds of the organs in one closed loop, for
  one person or many; `heart_kernels` are its compiled loops.
- `inlet`, `pulsatile`: velocities at the inlet; beats until they repeat, and the fields read off the last one.

SI throughout, but for trees and lesions (mm), which `network` and `outlets` take as they are traced.
"""
