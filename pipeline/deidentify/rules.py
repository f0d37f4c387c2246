"""The allow-list: what may stay of a DICOM file. What is not named here does not leave.

An element stays under its standard VR and only where its value has the form that the list gives it: a number, a code
out of `words`, a date that is moved, a UID that is hashed. The choice follows DICOM PS3.15 Annex E (Basic Profile)
with the options of CODES; where Annex E would let text stay once it is cleaned, only known words stay.
Source: https://dicom.nema.org/medical/dicom/current/output/html/part15.html.
"""

CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113111": "Retain Safe Private Option",
}
"""What was done, by its code of the scheme DCM (PS3.16 CID 7050)."""

CLASSES = {f"1.2.840.10008.5.1.4.1.1.{n}" for n in (
    "2", "2.1", "2.2", "4", "4.1", "4.2", "4.4", "20", "128", "128.1", "130",
    "1", "1.1", "1.1.1", "12.1", "12.1.1", "12.2", "12.2.1", "3.1", "6.1", "6.2", "7", "7.1", "7.2", "7.3", "7.4")}
"""Classes of images that are looked at: CT, MR, NM, PET (classic, enhanced, converted); radiographs, angiography,
ultrasound and secondary captures, which are set aside for what is written in them."""

US = "1.2.840.10008.5.1.4.1.1.6.1"
WRITTEN_IN = {f"1.2.840.10008.5.1.4.1.1.{n}" for n in (
    "1", "1.1", "1.1.1", "12.1", "12.1.1", "12.2", "12.2.1", "3.1", "6.1", "6.2", "7", "7.1", "7.2", "7.3", "7.4")}
"""Classes whose images usually have text in them: films, screens, ultrasound."""

CAPTURED_TYPES = {"SCREEN SAVE", "SCREENSHOT", "CAPTURE", "SCREEN", "REPORT", "DOSE REPORT", "PROTOCOL", "PASTED",
                  "ANNOTATED", "SCREEN_SAVE", "DOSE_INFO"}
"""Values of ImageType of pictures of a screen."""


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEPT = _split("""
    PatientSex PatientAge PatientSize PatientWeight
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
    StudyDate StudyTime SeriesDate SeriesTime AcquisitionDate AcquisitionTime AcquisitionDateTime ContentDate
    ContentTime Modality SeriesNumber AcquisitionNumber InstanceNumber ImageType BodyPartExamined PatientPosition
    Laterality ImageLaterality BurnedInAnnotation LossyImageCompression LossyImageCompressionRatio
    LossyImageCompressionMethod ImagesInAcquisition
    ImagePositionPatient ImageOrientationPatient PixelSpacing ImagerPixelSpacing SliceThickness SliceLocation
    SpacingBetweenSlices GantryDetectorTilt TableHeight
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns NumberOfFrames BitsAllocated BitsStored
    HighBit PixelRepresentation SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue
    PixelPaddingRangeLimit PixelAspectRatio RescaleIntercept RescaleSlope RescaleType WindowCenter WindowWidth
    VOILUTFunction PresentationLUTShape
    KVP DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient
    RotationDirection ExposureTime XRayTubeCurrent Exposure GeneratorPower FocalSpots RevolutionTime
    SingleCollimationWidth TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor CTDIvol
    ConvolutionKernel
    ScanningSequence SequenceVariant ScanOptions MRAcquisitionType RepetitionTime EchoTime EffectiveEchoTime
    InversionTime NumberOfAverages ImagingFrequency ImagedNucleus EchoNumbers MagneticFieldStrength
    NumberOfPhaseEncodingSteps EchoTrainLength PercentSampling PercentPhaseFieldOfView PixelBandwidth FlipAngle
    VariableFlipAngleFlag SAR dBdt TriggerTime NominalInterval LowRRValue HighRRValue CardiacNumberOfImages HeartRate
    NominalCardiacTriggerDelayTime ActualCardiacTriggerDelayTime AcquisitionMatrix InPlanePhaseEncodingDirection
    TemporalPositionIdentifier NumberOfTemporalPositions TemporalResolution TemporalPositionIndex DiffusionBValue
    DiffusionGradientOrientation DiffusionDirectionality VelocityEncodingDirection VelocityEncodingMinimumValue
    VelocityEncodingMaximumValue
    Units CountsSource SeriesType RandomsCorrectionMethod DecayCorrection CorrectedImage NumberOfSlices
    NumberOfTimeSlices FrameReferenceTime ActualFrameDuration DoseCalibrationFactor ScatterFractionFactor DecayFactor
    ImageIndex SUVType RadiopharmaceuticalStartTime RadiopharmaceuticalStopTime RadiopharmaceuticalStartDateTime
    RadiopharmaceuticalStopDateTime RadionuclideTotalDose RadionuclideHalfLife RadionuclidePositronFraction
    RadiopharmaceuticalVolume RadiopharmaceuticalSpecificActivity
    FrameType FrameAcquisitionDateTime FrameReferenceDateTime FrameAcquisitionDuration FrameAcquisitionNumber
    DimensionIndexValues DimensionIndexPointer FunctionalGroupPointer DimensionOrganizationUID DimensionOrganizationType
    InStackPositionNumber StackID PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique
    ComplexImageComponent AcquisitionContrast IsocenterPosition
""")
"""Elements with a value; its form follows from the VR, and for text from `words`."""

SEQUENCES = _split("""
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PixelMeasuresSequence PlanePositionSequence
    PlaneOrientationSequence FrameContentSequence PixelValueTransformationSequence FrameVOILUTSequence MREchoSequence
    MRDiffusionSequence DiffusionGradientDirectionSequence MRImageFrameTypeSequence CTImageFrameTypeSequence
    PETFrameTypeSequence MRTimingAndRelatedParametersSequence MRVelocityEncodingSequence
    CardiacSynchronizationSequence TemporalPositionSequence DimensionOrganizationSequence DimensionIndexSequence
    RadiopharmaceuticalInformationSequence
""")
"""Sequences whose items are cleaned by the same rules."""

CODED = _split("""
    RadionuclideCodeSequence RadiopharmaceuticalCodeSequence AdministrationRouteCodeSequence
    PatientOrientationCodeSequence PatientOrientationModifierCodeSequence PatientGantryRelationshipCodeSequence
    AnatomicRegionSequence
""")
"""Sequences of codes: a code that DICOM's own tables list stays, with the tables' words for it."""

EMPTY = _split("""
    PatientBirthDate StudyTime StudyDate AccessionNumber StudyID ReferringPhysicianName PatientSex Manufacturer
    PositionReferenceIndicator
""")
"""Elements that an image must have, though they may be empty (type 2)."""

DESCRIBED = _split("StudyDescription SeriesDescription ProtocolName")
"""Free text of which the known words stay."""

LEVELS = {"SOPInstanceUID": "image", "StudyInstanceUID": "study", "SeriesInstanceUID": "series",
          "FrameOfReferenceUID": "frame"}
"""What a UID is of, for its hash: as in all that the project writes."""

HEADS = {"HEAD", "BRAIN", "FACE", "SKULL", "HEADNECK", "EAR", "EYE", "ORBIT", "SINUS", "SINUSES", "JAW", "MAXILLA",
         "MANDIBLE", "ZYGOMA", "NOSE", "IAC", "TMJ", "PITUITARY", "TEETH", "DENTAL", "MASTOID", "PARANASALSINUS",
         "WHOLEBODY", "TEMPORALBONE", "NECKHEAD", "CIRCLEOFWILLIS", "NEURO"}
"""BodyPartExamined of an image that has, or may have, a face."""

HEAD_WORDS = (r"head|brain|skull|face|facial|neuro|crani|cereb|orbit|sinus|dental|pituit|kopf|sch[aä]del|gehirn|hirn|"
              r"t[eê]te|cerveau|cr[aâ]n|cabeza|cerebro|mprage|\bwb\b|whole.?body|ganzk[oö]rper|stroke|\biac\b")
"""The same in free text."""
