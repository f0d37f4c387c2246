"""Flow by phase contrast: known flow comes back from wraps, background phase and noise, and not without corrections."""

import csv
from pathlib import Path

import flow_phantom as phantom
import numpy as np
import pytest

from pipeline import formats
from pipeline.ingest import IngestInputs
from pipeline.ingest.velocity import IngestVelocityConfig, ingest_velocity
from pipeline.measure_flow import MeasureFlowConfig, MeasureFlowInputs, measure_flow
from pipeline.simulate_flow import SimulateFlowConfig, outside
from pipeline.stage import run
from pipeline.table import read_rows
from solvers.errors import BadInput
from solvers.imaging import phase_contrast

PEAK = float(phantom.profile(np.linspace(0, 1, 50), phantom.moments()).max())
SCAN = phantom.Scan(venc=0.6 * PEAK)
TRUTH = phantom.flow(phantom.moments())


def measured(corrections=phase_contrast.Corrections(), scan=SCAN):
    """The flow through the pipe's own mask of voxels with flow."""
    encoded = phantom.scanned(scan)
    clean = phase_contrast.solve(encoded, corrections)
    found = phase_contrast.vessels(phase_contrast.solve(encoded))[:, :, 0]
    return phase_contrast.through(clean, phase_contrast.slice_plane(found == 1, encoded.affine), phantom.moments(),
                                  phantom.PERIOD)


def error(flow, truth=TRUTH):
    """Of the mean flow, and of the curve (root mean square over its peak)."""
    return abs(flow.net / truth.mean() - 1), float(np.sqrt(np.mean((flow.flow - truth) ** 2)) / truth.max())


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_flow_through_a_pipe(seed):
    """VENC at 60 % of the peak, a quadratic background of up to 8 % of VENC, noise."""
    found = measured(scan=phantom.Scan(venc=0.6 * PEAK, seed=seed))
    assert max(error(found)) < 0.015
    assert error(found)[0] * TRUTH.mean() < 2 * found.net_deviation
    assert found.peak.max() == pytest.approx(PEAK, rel=0.05)


@pytest.mark.parametrize(("missing", "least"), [
    (phase_contrast.Corrections(unwrap=False), 0.5), (phase_contrast.Corrections(background=None), 0.04),
    (phase_contrast.Corrections(background=0), 0.02)])
def test_each_correction_is_needed(missing, least):
    assert error(measured(missing))[0] > least


def test_what_flows_back():
    scan = phantom.Scan(venc=0.6 * PEAK, steady=15e-6)
    truth = phantom.flow(np.linspace(0, phantom.PERIOD, 2000, endpoint=False), scan.steady)
    wanted = np.clip(-truth, 0, None).sum() / np.clip(truth, 0, None).sum()
    assert wanted > 0.3
    assert measured(scan=scan).regurgitant_fraction == pytest.approx(wanted, abs=0.02)


def test_the_deviation_by_noise_is_that_of_many_scans():
    found = [measured(scan=phantom.Scan(venc=1.5 * PEAK, noise=0.1, seed=n)) for n in range(20)]
    assert np.std([f.flow for f in found], axis=0).mean() == pytest.approx(np.mean([f.noise for f in found]), rel=0.25)


def test_turns_are_undone_where_tissue_says_zero():
    """Every seen voxel comes back within its noise: in space the wraps close on themselves."""
    encoded = phantom.scanned(phantom.Scan(venc=0.6 * PEAK, background=0.0, noise=0.01))
    free = phantom.scanned(phantom.Scan(venc=3 * PEAK, background=0.0, noise=0.002))
    clean = phase_contrast.solve(encoded, phase_contrast.Corrections(background=None))
    deep = phase_contrast.vessels(clean) == 1
    near = np.abs(clean.velocity - free.velocity)[deep]
    assert clean.wrapped > 0.01
    assert np.percentile(near, 99) < 0.25 * PEAK and np.median(near) < 0.02 * PEAK


def oblique(normal, n=40, pixel=1.2):
    """A straight pipe with a parabola of 1 m/s, three directions encoded, one time."""
    normal = np.array(normal) / np.linalg.norm(normal)
    place = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1) - (n - 1) / 2) * pixel
    r = np.linalg.norm(place - (place @ normal)[..., None] * normal, axis=-1) / phantom.RADIUS
    velocity = np.clip(1 - r**2, 0, None)[..., None, None] * normal
    return r < 1, phase_contrast.Encoded(velocity, np.ones((n, n, n, 1)), np.eye(3), np.full(3, 2.0),
                                         np.diag([pixel, pixel, pixel, 1.0]))


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.5, -0.3, 1)])
def test_a_cross_section_of_any_slope(normal):
    """Flow along a pipe, also through planes that lie aslant: mass is kept."""
    lumen, encoded = oblique(normal)
    clean = phase_contrast.solve(encoded, phase_contrast.Corrections(False, None))
    centre = np.full(3, 39 / 2 * 1.2)
    for tilt in ((0, 0, 0), (0.4, 0.1, 0)):
        plane = phase_contrast.cross_section(lumen, encoded.affine, centre, np.array(normal, float) + tilt, 20.0)
        flow = phase_contrast.through(clean, plane, np.zeros(1), 1.0)
        assert flow.net == pytest.approx(np.pi / 2 * (phantom.RADIUS * 1e-3) ** 2, rel=0.02)


def test_what_cannot_be_measured_is_refused():
    lumen, encoded = oblique((0, 0, 1))
    clean = phase_contrast.solve(encoded, phase_contrast.Corrections(False, None))
    one = phase_contrast.Encoded(encoded.velocity[..., :1], encoded.magnitude, encoded.directions[:1],
                                 encoded.venc[:1], encoded.affine)
    aside = phase_contrast.solve(one, phase_contrast.Corrections(False, None))
    plane = phase_contrast.slice_plane(lumen[:, :, 5], encoded.affine, 5)
    cases = (
        ("not_through_plane", lambda: phase_contrast.through(aside, plane, np.zeros(1), 1.0)),
        ("no_lumen", lambda: phase_contrast.cross_section(lumen, encoded.affine, np.zeros(3), np.eye(3)[2], 5.0)),
        ("bad_beat", lambda: phase_contrast.through(clean, plane, np.arange(2), 1.0)),
        ("little_static_tissue", lambda: phase_contrast.solve(encoded, phase_contrast.Corrections(
            False, 2, np.ones(lumen.shape, bool)))))
    for code, act in cases:
        with pytest.raises(BadInput) as refused:
            act()
        assert refused.value.code == code


# From DICOM to the inlet

def through_stages(scan: Path, home: Path, **settings):
    read = run(ingest_velocity, IngestInputs(scan=scan), IngestVelocityConfig(**settings), home / "ingest")
    return read, run(measure_flow, MeasureFlowInputs(velocity=read.velocity, magnitude=read.magnitude,
                                                     sidecar=read.sidecar), MeasureFlowConfig(), home / "measure_flow")


@pytest.mark.parametrize("vendor", ["SIEMENS", "GE", "PHILIPS", ""])
def test_velocity_as_vendors_write_it(vendor, tmp_path):
    """The scale, VENC and direction of each are found; the sign is that of the phantom (GE's head to foot turned)."""
    encoded = phantom.scanned(SCAN)
    read, done = through_stages(phantom.write_dicom(tmp_path / f"scan-{vendor}", encoded, vendor), tmp_path / "home")
    facts = formats.read_json(read.sidecar)
    assert facts["venc_m_s"] == [pytest.approx(SCAN.venc, rel=2e-3)]
    assert facts["beat_ms"] == 900 and len(facts["times_ms"]) == phantom.TIMES
    assert facts["directions_lps"] == [[0, 0, -1.0 if vendor == "GE" else 1.0]]
    volume = formats.read_volume(read.velocity)
    assert volume.values.shape == encoded.velocity.shape
    assert np.asarray(volume.values) == pytest.approx(encoded.velocity, abs=2e-3 * SCAN.venc + 1e-3)
    rows = {(r.measure, r.statistic): r for r in read_rows(done.measurements)}
    found = rows["flow", "mean"]
    assert abs(found.value) == pytest.approx(6e4 * TRUTH.mean(), rel=0.02)
    assert found.low < found.value < found.high and found.sources == "noise;background;segmentation"
    inlet = formats.read_json(done.inlet)
    assert inlet["period"] == 0.9 and inlet["flow"] == pytest.approx(TRUTH, abs=0.02 * TRUTH.max())
    with done.curves.open() as file:
        assert len(list(csv.DictReader(file))) == phantom.TIMES


def test_the_measured_flow_is_an_inflow(tmp_path):
    """Beat, mean and form go to simulate_flow; two inflows are refused."""
    path = tmp_path / "inlet.json"
    formats.write_json(path, {"unit": "SI", "period": 0.9, "flow": TRUTH.tolist()})
    config = outside.with_inflow(SimulateFlowConfig(), path)
    assert float(config.beat) == 0.9 and float(config.inlet_flow) == pytest.approx(TRUTH.mean())
    assert config.inlet_waveform == pytest.approx(TRUTH)
    for given, code in ((SimulateFlowConfig(beat="1 s"), "two_inflows"), (SimulateFlowConfig(), "wrong_unit")):
        if code == "wrong_unit":
            formats.write_json(path, {"flow": [1.0]})
        with pytest.raises(BadInput) as refused:
            outside.with_inflow(given, path)
        assert refused.value.code == code


def test_a_scan_without_velocity_is_refused(samples, tmp_path):
    with pytest.raises(BadInput) as refused:
        run(ingest_velocity, IngestInputs(scan=samples / "brain_dwi"), IngestVelocityConfig(), tmp_path / "ingest")
    assert refused.value.code == "no_velocity_series"


def test_a_phase_without_its_scale_is_refused(tmp_path):
    """GE's images weighted by magnitude hold no velocity by themselves."""
    import pydicom

    scan = phantom.write_dicom(tmp_path / "scan", phantom.scanned(SCAN), "GE")
    for file in scan.iterdir():
        data = pydicom.dcmread(file)
        data[0x00431032].value = 2
        data.save_as(file)
    with pytest.raises(BadInput) as refused:
        run(ingest_velocity, IngestInputs(scan=scan), IngestVelocityConfig(), tmp_path / "ingest")
    assert refused.value.code == "unknown_scale"
