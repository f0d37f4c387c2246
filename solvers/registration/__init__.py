"""One image laid on another, and how sure that is.

`grids` goes between `Volume` and SimpleITK, resamples, and keeps ITK to one thread so that digits repeat. `outline`
finds the body on CT, MR and PET. `agreement` judges a transform by measures of its own: mutual information, Dice,
share of the body that overlaps. `rigid` finds six numbers, from several starts whose spread is its error. `warp` adds a
B-spline, and drops it where it folds or does not help. `intensity` takes the coil's shading off an MR and gives it a
scale.

A transform maps points of the reference to points of the moving image, LPS mm, as ITK has it: resampling needs that
direction. All images are `Volume`s in LPS mm.
"""
