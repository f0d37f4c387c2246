"""A made-up case in the stages' folders, for tests of measure and report: a narrowed tube, its scan, its fields.

Nothing here is a result: the fields are formulas, so that a test knows what a page must show.
"""

import json
from pathlib import Path

import numpy as np
import pyvista

from pipeline import formats
from pipeline.table import Row, write_rows
from solvers.geometry.centrelines import Branch, Lesion, Tree
from solvers.geometry.volume import Volume
from solvers.units import MMHG

LENGTH, RADIUS = 80.0, 4.0  # mm


def radius(z, narrowing=0.5):
    """Radius along the tube, mm, least in the middle."""
    return RADIUS * (1 - narrowing * np.exp(-(((z - 0.5 * LENGTH) / 6.0) ** 2)))


def tree(narrowing=0.5):
    z = np.linspace(LENGTH, 0, 81)
    r = radius(z, narrowing)
    points = np.column_stack([0 * z, 0 * z, z])
    return Tree((Branch(points, r, np.pi * r**2, np.pi * (r - 0.2) ** 2, np.pi * (r + 0.2) ** 2, -1,
                        "iliac_artery_left"),))


def lesion(narrowing=0.5):
    r = RADIUS * (1 - narrowing)
    return Lesion("L1", 0, "iliac_artery_left", 40.0, 32.0, 48.0, 16.0, np.pi * r**2, np.pi * (r - 0.2) ** 2,
                  np.pi * (r + 0.2) ** 2, 2 * r, 2 * RADIUS, 100 * narrowing)


def surface(narrowing=0.5, unit="mm"):
    """The tube as triangles with the fields of a flow, made up."""
    angle, z = np.meshgrid(np.linspace(0, 2 * np.pi, 40, endpoint=False), np.linspace(0, LENGTH, 120))
    r = radius(z, narrowing)
    points = np.column_stack([(r * np.cos(angle)).ravel(), (r * np.sin(angle)).ravel(), z.ravel()])
    row, column = np.meshgrid(np.arange(119), np.arange(40), indexing="ij")
    a, b = row * 40 + column, row * 40 + (column + 1) % 40
    one, two = np.stack([a, b, a + 40], -1).reshape(-1, 3), np.stack([b, b + 40, a + 40], -1).reshape(-1, 3)
    triangles = np.vstack([one, two])
    mesh = pyvista.PolyData(points * (1e-3 if unit == "m" else 1.0),
                            faces=np.hstack([np.full((len(triangles), 1), 3), triangles]).ravel())
    if unit == "m":
        lost = 20 * MMHG * narrowing / (1 + np.exp((z.ravel() - 38) / 2))
        mesh.point_data["pressure_mean"] = 95 * MMHG - lost
        mesh.point_data["tawss"] = 1.2 * (RADIUS / r.ravel()) ** 3
        mesh.point_data["osi"] = 0.2 * np.exp(-(((z.ravel() - 28) / 6) ** 2)) * narrowing
    return mesh


def scan(narrowing=0.5):
    """A bright tube in grey noise, and the level field of its edge; the affine turns two axes."""
    affine = np.array([[-1.0, 0, 0, 20], [0, 1.0, 0, -20], [0, 0, 1.6, -8], [0, 0, 0, 1]])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (41, 41, 61)), indexing="ij"), -1)
    position = Volume(np.zeros(1), affine).position(index.reshape(-1, 3)).reshape(index.shape)
    level = np.hypot(position[..., 0], position[..., 1]) - radius(position[..., 2], narrowing)
    noise = np.random.default_rng(1).normal(0, 20, level.shape)
    grey = 40 + 260 / (1 + np.exp(4 * level)) + noise
    bone = np.hypot(position[..., 0] - 4, position[..., 1] - 14) < 4
    grey = Volume((grey + 400 * bone).astype(np.int16), affine)
    return grey, Volume(np.clip(level, -4, 4).astype(np.float32), affine)


def geometry_rows(narrowing=0.5):
    found = lesion(narrowing)
    row = Row(stage="trace_centrelines", region="iliac_artery_left", lesion="L1", statistic="value", method="sections")
    return [row.but(measure="percent_diameter_stenosis", value=found.percent_diameter_stenosis, unit="%", low=45.0,
                    high=55.0, level=0.683, sources="segmentation"),
            row.but(measure="minimal_diameter", value=found.minimal_diameter, unit="mm")]


def flow_rows(drop=20.0, tawss=1.9):
    row = Row(stage="simulate_flow", region="iliac_artery_left", lesion="L1", method="3D")
    return [row.but(measure="pressure_drop", statistic="mean", value=drop, unit="mmHg"),
            row.but(measure="pressure_drop", statistic="peak", value=2.5 * drop, unit="mmHg"),
            row.but(measure="distal_to_proximal_ratio", statistic="mean", value=1 - drop / 95, unit="1"),
            row.but(lesion="", measure="tawss", statistic="mean", value=tawss, unit="Pa")]


def network(drop=18.0, spread=0.2):
    """haemodynamics.json with the 0D network on three edges."""
    def case(d):
        return {"lesions": {"L1": {"pressure_drop": {"mean": d, "peak": 2.4 * d},
                                   "distal_to_proximal_ratio": {"mean": 1 - d / 95}}},
                "regions": {"iliac_artery_left": {"tawss": {"mean": 1.8 * (d / drop) ** 0.5}}}}
    return {"models": {"0D": {"nominal": case(drop), "inner": case(drop * (1 + spread)),
                              "outer": case(drop * (1 - spread))}},
            "evidence": {"is_periodic": True, "wall_repeats": True}}


def write_case(home, narrowing=0.5, drop=20.0, until="dose"):
    """Stages' folders below `home` up to `until`, one of surface, flow, dose."""
    home = Path(home)
    for name in ("ingest", "segment", "extract_surface"):
        (home / name).mkdir(parents=True)
    volume, level = scan(narrowing)
    formats.write_volume(home / "ingest/volume.nii.gz", volume)
    formats.write_json(home / "ingest/volume.json", {"modality": "CT", "anatomical": True, "sex": "M", "age_years": 64,
                                                     "warnings": ["One slice was interpolated."]})
    formats.write_volume(home / "segment/lumen.nii.gz", level)
    formats.write_volume(home / "segment/labels.nii.gz", level.but((level.values < 0).astype(np.uint8)))
    (home / "segment/labels.tsv").write_text("index\tname\tvolume_ml\n1\tarterial_lumen\t3.6\n")
    formats.write_mesh(home / "extract_surface/arterial_lumen.vtp", surface(narrowing), "mm")
    if until != "surface":
        _write_flow(home, narrowing, drop)
    if until == "dose":
        _write_dose(home, drop)
    for folder in sorted(p for p in home.iterdir() if p.is_dir()):
        _write_record(folder)
    return home


def _write_flow(home, narrowing, drop):
    for name in ("trace_centrelines", "mesh", "mesh_coarse", "simulate_flow", "simulate_flow_coarse"):
        (home / name).mkdir()
    formats.write_tree(home / "trace_centrelines/centrelines.vtp", tree(narrowing))
    formats.write_lesions(home / "trace_centrelines/lesions.json", [lesion(narrowing)])
    write_rows(home / "trace_centrelines/measurements.csv", geometry_rows(narrowing))
    formats.write_json(home / "mesh/boundaries.json", {"quality": {"n_tets": 48000}})
    formats.write_json(home / "mesh_coarse/boundaries.json", {"quality": {"n_tets": 12000}})
    formats.write_mesh(home / "simulate_flow/wall.vtp", surface(narrowing, "m"), "m")
    write_rows(home / "simulate_flow/measurements.csv", flow_rows(drop))
    write_rows(home / "simulate_flow_coarse/measurements.csv", flow_rows(0.97 * drop, 1.8))
    formats.write_json(home / "simulate_flow/haemodynamics.json", network(0.9 * drop))
    lines = ["model,case,place,time_s,pressure_pa,flow_m3_s"]
    for place, part, lag in (("inlet", 1.0, 0.0), ("iliac_artery_left", 1.0, 0.03)):
        for t in np.linspace(0, 0.9, 46):
            wave = np.exp(-(((t - 0.2 - lag) / 0.08) ** 2))
            pressure, flow = (75 + 45 * wave) * MMHG, part * 1e-6 * (8 + 60 * wave)
            lines.append(f"3D,nominal,{place},{t:.4g},{pressure:.8g},{flow:.8g}")
    (home / "simulate_flow/curves.csv").write_text("\n".join(lines) + "\n")


def _write_dose(home, drop):
    (home / "dose").mkdir()
    hours = np.linspace(0, 24, 97)
    lines = ["compartment,time_h,amount_mg,concentration_mg_per_l"]
    for name, part in (("plasma", 1.0), ("perfused_bed", 0.5 + 0.2 / drop)):
        lines += [f"{name},{h:.6g},,{part * 4 * (np.exp(-0.15 * h) - np.exp(-1.2 * h)):.8g}" for h in hours]
    (home / "dose/curves.csv").write_text("\n".join(lines) + "\n")
    write_rows(home / "dose/measurements.csv", [Row(stage="dose", region="plasma", measure="concentration",
                                                    statistic="max", value=2.24, unit="mg/L", method="small body")])


def _write_record(folder):
    (folder / "record.json").write_text(json.dumps({
        "stage": folder.name, "key": "5" * 64, "code": "a" * 64, "version": 1, "libraries": {"numpy": "2.0"},
        "settings": {"edge_length": "1.2 mm"}, "sources": ["Author 2000, doi:10.0000/example"], "outputs": {},
        "finished": "2020-01-01T00:00:00Z", "cpu_seconds": 1.0}))
