"""Images as arrays: where the vessels are and where exactly their edge lies.

`discs` finds round bright discs slice by slice along every axis and chains them
into tubes. `heart` finds where the aorta opens into the heart, which stays out.
`wavefront` grows from the tubes into branches and stops where the
front widens as no branch does. `edges` puts the edge where the intensity is
half way between the local lumen and the local surroundings, below the size of a
voxel, and says how sure that is. `distance` turns such an edge into a signed
distance. `aorta` follows the trunk and finds a second lumen beside the first.
`regions` holds the thresholds for body, lung and bone.

Arrays are indexed [i, j, k]; `spacing` is mm per index step; a physical position
here is index * spacing (the grid's own frame), never patient space.
"""
