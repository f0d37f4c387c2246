"""Organs on a CT of an adult's trunk, native or with contrast medium, without learned weights.

`scan` brings the image to patient axes and a grid of 2 to 3 mm; `bones` finds bone and the line of the spine, from
which all places are measured; `wall` finds fascia and the room within ribs and muscles; `lungs`, `tissue` (fat,
muscle), `skeleton` (hips, femora, vertebrae) and `heart` follow from these. `parts` cuts the soft tissue of the room
at its necks; `liver`, `kidneys` and `spleen` each choose the parts that are in their place and of their size, depth and
brightness; `competition` then sets their edges. `census` runs them all and judges what they found. Each hands back a
mask, or `Missing` with the reason.

Domain: adults, section of the body whole in the image, supine or prone with the axes of the image within 25 degrees of
the body's; liver of 20 HU or more; no contrast medium excreted by the kidneys; kidneys in their usual place.

Arrays are [x, y, z] towards the patient's left, back and head; spacing in mm; brightness in HU.
"""
