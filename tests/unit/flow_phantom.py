"""A pipe with pulsatile flow as phase-contrast MR sees it: partial volume, wraps, background phase, noise.

The flow is Womersley's, written here on its own: steady part a parabola, one
wave by Bessel functions.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid
from scipy import special

from solvers.imaging.phase_contrast import Encoded

RADIUS = 9.0  # mm
PERIOD, TIMES = 0.9, 20
STEADY, WAVES = 60e-6, ((1, 70e-6, 0.3), (2, 30e-6, 1.4))  # m^3/s; harmonic, amplitude, phase
NU = 3.3e-6


def moments():
    return np.arange(TIMES) * PERIOD / TIMES


def flow(times, steady=STEADY):
    """The true flow, m^3/s."""
    return steady + sum(a * np.cos(2 * np.pi * k * times / PERIOD + p) for k, a, p in WAVES)


def profile(r, times, steady=STEADY):
    """Velocity, m/s, (times, *r.shape), at a part r of the radius; zero outside."""
    inside = np.clip(r, 0, 1)
    area = np.pi * (RADIUS * 1e-3) ** 2
    total = np.tile(2 * steady / area * (1 - inside**2), (len(times), *[1] * r.ndim))
    for k, amplitude, phase in WAVES:
        z = RADIUS * 1e-3 * np.sqrt(2 * np.pi * k / PERIOD / NU) * 1j**1.5
        shape = (1 - special.jv(0, z * inside) / special.jv(0, z)) / (1 - 2 * special.jv(1, z) / (z * special.jv(0, z)))
        wave = amplitude / area * shape
        turn = np.exp(1j * (2 * np.pi * k * times / PERIOD + phase))
        total = total + np.real(turn.reshape(-1, *[1] * r.ndim) * wave)
    return total


@dataclass(frozen=True)
class Scan:
    """Settings of the scanner. venc: m/s; background: share of VENC at the corners; noise: of the tissue's signal."""

    venc: float = 1.0
    pixel: float = 1.5
    size: int = 48
    background: float = 0.08
    noise: float = 0.03
    blood: float = 1.6
    steady: float = STEADY
    seed: int = 3


@cache
def _clean(venc, pixel, size, blood, steady):
    """The complex signal without background and noise, (times, size, size)."""
    scan, fine = Scan(venc, pixel, size, blood=blood, steady=steady), 5
    line = (np.arange(scan.size * fine) + 0.5) / fine * scan.pixel - scan.size * scan.pixel / 2
    x, y = np.meshgrid(line, line, indexing="ij")
    r = np.hypot(x - 2.3, y + 1.7) / RADIUS
    body = (x / 31) ** 2 + (y / 27) ** 2 < 1
    strength = np.where(r < 1, scan.blood, np.where(body, 1.0, 0.0))
    v = profile(r, moments(), scan.steady) * (r < 1)
    blocks = (TIMES, scan.size, fine, scan.size, fine)
    return (strength * np.exp(1j * np.pi * v / scan.venc)).reshape(blocks).mean(axis=(2, 4))


def scanned(scan: Scan) -> Encoded:
    """One slice across the pipe, in a body of static tissue with air around."""
    signal = _clean(scan.venc, scan.pixel, scan.size, scan.blood, scan.steady)
    u = np.linspace(-1, 1, scan.size)
    s, t = np.meshgrid(u, u, indexing="ij")
    drift = scan.background * (0.45 + 0.4 * s - 0.3 * t + 0.3 * s * t - 0.35 * s**2 + 0.2 * t**2)
    random = np.random.default_rng(scan.seed)
    hiss = random.normal(size=(2, TIMES, scan.size, scan.size)) * scan.noise
    signal = signal * np.exp(1j * np.pi * drift) + hiss[0] + 1j * hiss[1]
    velocity = np.angle(signal) / np.pi * scan.venc
    affine = np.diag([scan.pixel, scan.pixel, 6.0, 1.0])
    place = np.moveaxis(velocity, 0, -1)[:, :, None, :, None]
    return Encoded(place, np.moveaxis(np.abs(signal), 0, -1)[:, :, None, :], np.array([[0.0, 0, 1.0]]),
                   np.array([scan.venc]), affine)


def write_dicom(folder: Path, measured: Encoded, vendor: str = "SIEMENS") -> Path:
    """The slice as magnitude and phase series; `vendor` says how velocity is told, "" by the standard alone."""
    folder.mkdir(parents=True)
    for time, ms in enumerate(1000 * moments()):
        for series, values in ((1, measured.magnitude[:, :, 0, time] * 400),
                               (2, measured.velocity[:, :, 0, time, 0] / measured.venc[0])):
            data = _image(folder, measured, series, time, float(ms))
            STORED[vendor](data, values.T, float(measured.venc[0]), series == 2)
            data.save_as(folder / f"{series}-{time:02d}.dcm", enforce_file_format=True)
    return folder


def _image(folder, measured, series, time, ms):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    data.SOPInstanceUID = generate_uid(entropy_srcs=[folder.name, str(series), str(time)])
    data.StudyInstanceUID = generate_uid(entropy_srcs=[folder.name])
    data.FrameOfReferenceUID = generate_uid(entropy_srcs=[folder.name, "frame"])
    data.SeriesInstanceUID, data.SeriesNumber = generate_uid(entropy_srcs=[folder.name, str(series)]), series
    data.Modality, data.PatientID, data.InstanceNumber = "MR", "PHANTOM", time + 1
    data.Rows, data.Columns, data.SamplesPerPixel = *measured.velocity.shape[1::-1], 1
    data.PhotometricInterpretation, data.PixelSpacing = "MONOCHROME2", [measured.spacing[1], measured.spacing[0]]
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.SliceThickness, data.TriggerTime, data.NominalInterval = measured.spacing[2], ms, int(1000 * PERIOD)
    return data


def _pixels(data, stored, bits, signed):
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, int(signed)
    data.PixelData = np.clip(np.round(stored), *((-32768, 32767) if signed else (0, 2**bits - 1))).astype(
        np.int16 if signed else np.uint16).tobytes()


def _siemens(data, values, venc, is_phase):
    """The venc's text is in both series; a phase is twice the stored number less 4096."""
    data.Manufacturer, data.ImageType = "SIEMENS", ["ORIGINAL", "PRIMARY", "P" if is_phase else "M", "ND"]
    data.add_new(0x00510010, "LO", "SIEMENS MR HEADER")
    data.add_new(0x00511014, "SH", f"v{100 * venc:.4g}in_th")
    if is_phase:
        data.RescaleSlope, data.RescaleIntercept = "2", "-4096"
    _pixels(data, 2048 + 2048 * values if is_phase else values, 12, False)


def _ge(data, values, venc, is_phase):
    """One series holds both; a velocity is in mm/s."""
    data.Manufacturer, data.ImageType = "GE MEDICAL SYSTEMS", ["ORIGINAL", "PRIMARY", "OTHER"]
    data.SeriesInstanceUID, data.SeriesNumber = generate_uid(entropy_srcs=[str(data.StudyInstanceUID), "both"]), 1
    data.add_new(0x00190010, "LO", "GEMS_ACQU_01")
    data.add_new(0x001910CC, "SS", round(1000 * venc))
    data.add_new(0x00430010, "LO", "GEMS_PARM_01")
    data.add_new(0x00431030, "SS", 11 if is_phase else 8)
    data.add_new(0x00431032, "SS", 0)
    _pixels(data, values * 1000 * venc if is_phase else values, 16, True)


def _philips(data, values, venc, is_phase):
    """A velocity is in cm/s after its scale."""
    data.Manufacturer = "Philips Healthcare"
    data.ImageType = ["ORIGINAL", "PRIMARY", *(("VELOCITY MAP", "P", "PCA") if is_phase else ("M_PCA", "M", "PCA"))]
    data.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    data.add_new(0x2001101A, "FL", [0.0, 0.0, 100 * venc])
    if is_phase:
        data.RescaleSlope, data.RescaleIntercept = f"{200 * venc / 4096:.12g}", f"{-100 * venc:.12g}"
    _pixels(data, 2048 + 2048 * values if is_phase else values, 12, False)


def _standard(data, values, venc, is_phase):
    """The standard's sequence, and a real world value map in cm/s."""
    data.Manufacturer, data.ImageType = "Nobody", ["ORIGINAL", "PRIMARY", "PHASE" if is_phase else "MAGNITUDE"]
    if is_phase:
        encoding, unit, real = Dataset(), Dataset(), Dataset()
        encoding.VelocityEncodingDirection = [0.0, 0.0, 1.0]
        encoding.VelocityEncodingMinimumValue, encoding.VelocityEncodingMaximumValue = -100 * venc, 100 * venc
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "cm/s", "UCUM", "cm/s"
        real.MeasurementUnitsCodeSequence, real.LUTLabel = [unit], "velocity"
        real.RealWorldValueSlope, real.RealWorldValueIntercept = 200 * venc / 4096, -100 * venc
        data.MRVelocityEncodingSequence, data.RealWorldValueMappingSequence = [encoding], [real]
    _pixels(data, 2048 + 2048 * values if is_phase else values, 12, False)


STORED = {"SIEMENS": _siemens, "GE": _ge, "PHILIPS": _philips, "": _standard}
