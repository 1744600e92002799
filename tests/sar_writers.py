"""Small files of the formats that SAR sensors and archives deliver, written without the readers under test."""

import struct
import warnings

import numpy as np

TARGET = {"TargetType": "t72_tank", "TargetSerNum": "812", "TargetAz": "203.741455", "DesiredDepression": "17"}


def mstar(magnitude, phase, order=">", native=b"", **fields):
    """A raw chip as bytes; `fields` change the header, None leaves one out."""
    rows, columns = magnitude.shape
    known = {"NumberOfColumns": f"{columns:05d}", "NumberOfRows": f"{rows:05d}", **TARGET}
    if native:
        known["native_header_length"] = str(len(native))
    length = 512
    known = {"PhoenixHeaderLength": f"{length:05d}", **known, **fields}
    lines = [f"{key}= {value}" for key, value in known.items() if value is not None]
    head = "\n".join(["[PhoenixHeaderVer01.04]", *lines, "[EndofPhoenixHeader]", ""]).encode()
    values = np.stack([magnitude, phase]).astype(f"{order}f4").tobytes()
    return head.ljust(length) + native + values


def matlab_5(name, values, order="<", stored=(9, "f8")):
    """A MATLAB file of version 5 with one array of class double, by MathWorks' description of the format.

    `stored` is the type of its element, by number and NumPy's name: MATLAB stores small whole numbers in few bytes.
    """

    def element(kind, content):
        return struct.pack(f"{order}II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    head = b"MATLAB 5.0 MAT-file, written by a test".ljust(124) + struct.pack(
        f"{order}H2s", 0x0100, b"MI"[:: -1 if order == "<" else 1]
    )
    flags = element(6, struct.pack(f"{order}II", 6, 0))  # class double
    sides = element(5, struct.pack(f"{order}ii", *values.shape))
    content = element(stored[0], values.astype(order + stored[1]).tobytes(order="F"))
    return head + element(14, flags + sides + element(1, name.encode()) + content)


def matlab_73(path, arrays):
    """A MATLAB file of version 7.3: HDF5 after 512 bytes; axes turned, complex values as pairs."""
    import h5py  # noqa: PLC0415 -- of an extra

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            kind = {"U": "char", "b": "logical"}.get(np.asarray(values).dtype.kind)
            content = np.frombuffer(values.encode("utf-16-le"), "<u2") if kind == "char" else values
            turned = np.atleast_2d(content).T
            turned = turned.astype(np.uint8) if kind == "logical" else turned
            stored = turned
            if np.iscomplexobj(turned):
                part = turned.real.dtype
                stored = np.empty(turned.shape, [("real", part), ("imag", part)])
                stored["real"], stored["imag"] = turned.real, turned.imag
            how = {"compression": "gzip", "shuffle": True} if stored.size > 1 else {}
            file.create_dataset(name, data=stored, **how)
            if kind:
                file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    head = b"MATLAB 7.3 MAT-file, Platform: test".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
    with path.open("r+b") as file:
        file.write(head)
    return path


def xyz(x, y, z):
    return f"<X>{x}</X><Y>{y}</Y><Z>{z}</Z>"


def corners(tag):
    places = ((1.0, 2.0), (1.0, 2.1), (1.1, 2.1), (1.1, 2.0))
    names = ("1:FRFC", "2:FRLC", "3:LRLC", "4:LRFC")
    return "".join(
        f'<{tag} index="{name}"><Lat>{lat}</Lat><Lon>{lon}</Lon></{tag}>'
        for name, (lat, lon) in zip(names, places, strict=True)
    )


def sicd(path, values, kind, before=""):
    """A SICD product; `values` [H, W] of sarkit's type for that kind of pixel; `before` stands before its XML."""
    import lxml.etree  # noqa: PLC0415 -- of an extra
    import sarkit.sicd  # noqa: PLC0415 -- of an extra

    rows, columns = values.shape
    text = f"""{before}<SICD xmlns="urn:SICD:1.4.0">
    <CollectionInfo><CollectorName>TESTSAT</CollectorName><CoreName>core 7</CoreName>
      <RadarMode><ModeType>SPOTLIGHT</ModeType></RadarMode><Classification>UNCLASSIFIED</Classification></CollectionInfo>
    <ImageData><PixelType>{kind}</PixelType><NumRows>{rows}</NumRows><NumCols>{columns}</NumCols>
      <FirstRow>0</FirstRow><FirstCol>0</FirstCol>
      <FullImage><NumRows>{rows}</NumRows><NumCols>{columns}</NumCols></FullImage>
      <SCPPixel><Row>{rows // 2}</Row><Col>{columns // 2}</Col></SCPPixel></ImageData>
    <GeoData><EarthModel>WGS_84</EarthModel><SCP><ECF>{xyz(6378137, 0, 0)}</ECF>
      <LLH><Lat>0</Lat><Lon>0</Lon><HAE>0</HAE></LLH></SCP>
      <ImageCorners>{corners("ICP")}</ImageCorners></GeoData>
    <Grid><ImagePlane>SLANT</ImagePlane>
      <Row><UVectECF>{xyz(-0.7071, 0.7071, 0)}</UVectECF><SS>0.3</SS></Row>
      <Col><UVectECF>{xyz(0, 0, 1)}</UVectECF><SS>0.25</SS></Col></Grid>
    <Timeline><CollectStart>2020-01-02T03:04:05.000000Z</CollectStart></Timeline>
    <ImageFormation><TxRcvPolarizationProc>V:H</TxRcvPolarizationProc></ImageFormation>
    <SCPCOA><ARPPos>{xyz(6878137, -500000, 0)}</ARPPos><ARPVel>{xyz(0, 0, 7500)}</ARPVel><SideOfTrack>R</SideOfTrack>
      <GrazeAng>45</GrazeAng></SCPCOA></SICD>"""
    tree = lxml.etree.fromstring(text).getroottree()
    safe = {"security": {"clas": "U"}}
    about = sarkit.sicd.NitfMetadata(
        xmltree=tree,
        file_header_part={"ostaid": "test", **safe},
        im_subheader_part={"isorce": "test", **safe},
        de_subheader_part=safe,
    )
    # the schema would have more than its readers need
    with (
        warnings.catch_warnings(action="ignore"),
        path.open("wb") as file,
        sarkit.sicd.NitfWriter(file, about) as writer,
    ):
        writer.write_image(values)
    return path


def sidd(path, images, kind, table=None):
    """A SIDD product of one or more images [H, W] of sarkit's type for that kind of pixel."""
    import lxml.etree  # noqa: PLC0415 -- of an extra
    import sarkit.sidd  # noqa: PLC0415 -- of an extra

    safe = {"security": {"clas": "U"}}
    products = []
    for values in images:
        rows, columns = values.shape
        text = f"""<SIDD xmlns="urn:SIDD:3.0.0" xmlns:sicommon="urn:SICommon:1.0">
        <ProductCreation><ProductName>product 7</ProductName>
          <Classification classification="U"/></ProductCreation>
        <Display><PixelType>{kind}</PixelType></Display>
        <GeoData><ImageCorners>{corners("sicommon:ICP").replace("<L", "<sicommon:L").replace("</L", "</sicommon:L")}
        </ImageCorners></GeoData>
        <Measurement><PlaneProjection>
          <SampleSpacing><sicommon:Row>0.5</sicommon:Row><sicommon:Col>0.75</sicommon:Col></SampleSpacing>
          </PlaneProjection>
          <PixelFootprint><sicommon:Row>{rows}</sicommon:Row><sicommon:Col>{columns}</sicommon:Col></PixelFootprint>
        </Measurement>
        <ExploitationFeatures><Collection><Information><SensorName>TESTSAT</SensorName>
          <CollectionDateTime>2020-01-02T03:04:05.000000Z</CollectionDateTime></Information></Collection>
        </ExploitationFeatures></SIDD>"""
        with warnings.catch_warnings(action="ignore"):
            products.append(
                sarkit.sidd.NitfProductImageMetadata(
                    xmltree=lxml.etree.fromstring(text).getroottree(),
                    im_subheader_part=safe,
                    de_subheader_part=safe,
                    lookup_table=table,
                )
            )
    about = sarkit.sidd.NitfMetadata(file_header_part={"ostaid": "test", **safe}, images=products)
    with path.open("wb") as file, sarkit.sidd.NitfWriter(file, about) as writer:
        for number, values in enumerate(images):
            writer.write_image(number, values)
    return path
