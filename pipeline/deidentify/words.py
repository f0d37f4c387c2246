"""The words that may stay: defined terms of coded elements, and what descriptions say of anatomy and technique."""

import re

TERMS = frozenset(t.strip() for t in """
ORIGINAL|DERIVED|PRIMARY|SECONDARY|AXIAL|LOCALIZER|MOSAIC|NORM|DIS2D|DIS3D|ND|NONE|M|P|R|I|FFE|M_FFE|P_FFE|SE|M_SE|IR
M_IR|PCA|M_PCA|PHASE CONTRAST M|VELOCITY MAP|MAGNITUDE|PHASE|REAL|IMAGINARY|MIXED|ADC|FA|TRACEW|DIFFUSION|TENSOR|FMRI
PERFUSION|PROJECTION IMAGE|MPR|MIP|MINIP|AVERAGE|REFORMATTED|VOLUME|CT_SOM5 SPI|CT_SOM5 SEQ|CT_SOM7 SPI|OTHER|MULTIBAND
CT_SOM7 SPI DUAL|STATIC|DYNAMIC|GATED|WHOLE BODY|IMAGE|REPROJECTION|EMISSION|TRANSMISSION|SIMULATED|ATTENUATION|SUB
WATER|FAT|IN_PHASE|OUT_PHASE|OUT OF PHASE|IN PHASE|T1 MAP|T2 MAP|T2_STAR MAP|B0 MAP|PROTON_DENSITY|T1|T2|T2_STAR|TOF
FLOW_ENCODED|FLUID_ATTENUATED|STIR|TAGGING|MAGNETIZATION_TRANSFER|UNKNOWN|NON_PARALLEL|VOLUME_RENDER|SAMPLED|DISTORTED
MAX_IP|MIN_IP|MEDIAN|MONOCHROME|COLOR|TRUE_COLOR|QUANTITATIVE MAPPING|MULTIPLANAR|3D|2D|RESAMPLED|FILTERED|ANGIO
SCREEN SAVE|REFORMAT|AUTO|MANUAL|CINE|TRIGGERED|SUM|STD|DIXON|OPP_PHASE|TTEST|NO|YES|EPI|SPIRAL|RADIAL|MEAN|MOCO
CT|MR|PT|NM|M|F|O|HFS|HFP|FFS|FFP|HFDR|HFDL|FFDR|FFDL|L|R|U|B|00|01|ISO_10918_1|ISO_14495_1|ISO_15444_1|ISO_13818_2
MONOCHROME1|MONOCHROME2|LINEAR|LINEAR_EXACT|SIGMOID|IDENTITY|INVERSE|HU|US|OD|CW|CC|EP|GR|RM|SK|MTC|SS|TRSS|SP|MP|OSP
PER|RG|CG|PPG|FC|PFF|PFP|SFS|FS|CT_COR|ROW|COL|ROWCOL|OTHER|DIRECTIONAL|ISOTROPIC|BMATRIX|BQML|GML|CM2ML|CNTS|PROPCPS
CPS|NA|MLG|STDDEV|BW|LBM|BSA|LBMJAMES128|LBMJANMA|IBW|START|ADMIN|ATTN|DECY|SCAT|DTIM|MOTN|PMOT|CLN|RAN|RADL|DCAL|NORM
FLT|EMI|DLYD|RANDOMS|SINGLES|HELICAL|HELICAL MODE|AXIAL MODE|3D_TEMPORAL|TILED_FULL
ABDOMEN|ABDOMENPELVIS|ANKLE|AORTA|ARM|BREAST|CAROTID|CHEST|CHESTABDOMEN|CHESTABDPELVIS|CSPINE|ELBOW|EXTREMITY|FOOT|HAND
HEART|HIP|KIDNEY|KNEE|LEG|LIVER|LSPINE|LUNG|NECK|PELVIS|SHOULDER|SPINE|THORAX|TSPINE|WRIST|HEAD|BRAIN|FACE|SKULL|EAR
HEADNECK|EYE|ORBIT|SINUS|JAW|WHOLEBODY|PARTIALBODY|PROSTATE|PANCREAS|UTERUS|BLADDER|THIGH|CALF|FEMUR|SSPINE
""".replace("\n", "|").split("|") if t.strip())
"""Values of elements of VR CS. A value that is not here might name somebody: it becomes OTHER, or goes."""

_DESCRIPTIONS = """
    abdomen abdominal aorta aortic thorax thoracic chest lung lungs liver kidney kidneys renal spleen pancreas pelvis
    pelvic heart cardiac coronary coronaries carotid neck spine knee hip leg legs thigh shoulder prostate breast bowel
    iliac femoral peripheral runoff run-off extremity whole body wb head brain skull face venous arterial portal portven
    pv art arteriell venoes nativ native delayed late phase phases early spaet contrast non-contrast noncontrast without
    with unenhanced enhanced post pre cta mra angio angiography angiogram ct mr mri pet pt ce gd km w wo c+ c-
    axial ax sagittal sag coronal cor transverse tra oblique obl t1 t2 pd flair dwi dti adc tof swi stir mprage space
    vibe haste tse fse gre epi spgr ffe bold diffusion perfusion fmri flow venc phase-contrast pc cine map fat water sat
    fs dixon in out opp soft tissue bone standard recon thin thick slice slices mip mpr reformat attenuation corrected
    ac nac non uncorrected fdg suv scout localizer localiser topogram survey helical spiral sequence dynamic gated
    breath hold breathhold inspiration expiration low dose high resolution 2d 3d 4d
"""
_KNOWN = frozenset(_DESCRIPTIONS.split())

MAKERS = ("SIEMENS", "GE MEDICAL SYSTEMS", "PHILIPS", "UIH", "CANON", "TOSHIBA", "HITACHI", "FUJIFILM", "HYPERFINE",
          "AGFA", "BRUKER", "SHIMADZU", "NEUSOFT", "ESAOTE", "CPS", "GE")
"""Makers of scanners, by what their name has in it."""

_KERNEL = re.compile(r"(?:[BHIJTDU]|Br|Hr|Bv|Qr|Hv|Bl|Hc|Qc|Br)\d{2}[a-z]?|FC\d{2}|STANDARD|SOFT|BONE|BONEPLUS|LUNG|"
                     r"DETAIL|EDGE|CHST|SHARP|SMOOTH|YA|YB|YC")
_NUCLEUS = re.compile(r"\d{1,3}[A-Z][A-Z]?|[A-Z][a-z]?")


def described(text: str) -> str:
    """The known words of a description, in order. Numbers go too: they may be dates or identifiers."""
    # the accents of two words are dealt with here, so that what leaves is ASCII
    plain = text.lower().replace("ö", "oe").replace("ä", "ae").replace("w/o", "without").replace("w/", "with ")
    parts = re.split(r"[^a-z0-9+-]+", plain.replace("k.m.", "km").replace("k.m", "km"))
    return " ".join(p for p in parts if p in _KNOWN)


def maker(text: str) -> str:
    """The maker of a scanner by its usual name; nothing for one that is not known."""
    upper = text.upper()
    return next((m for m in MAKERS if re.search(rf"\b{m}\b", upper)), "")


def short(keyword: str, value: str) -> str | None:
    """One value of a short text element that stays, or None."""
    if keyword == "ConvolutionKernel":
        return value if _KERNEL.fullmatch(value) else None
    if keyword == "StackID":
        return value if re.fullmatch(r"\d{1,4}", value) else None
    if keyword == "ImagedNucleus":
        return value if _NUCLEUS.fullmatch(value) and value in ("1H", "H", "H1", "31P", "23NA", "13C", "19F") else None
    return value if keyword == "RescaleType" and value in ("HU", "US", "OD", "MGML", "Z_EFF", "ED", "BQML") else None
