"""The endings of files that their user means as pictures, read or not: each of them is a sample or a loss.

The endings of archives are among them, because there are pictures in an archive.
"""

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ico"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".sgi", ".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic"),
    *(".heif", ".svg", ".psd", ".eps", ".exr", ".hdr", ".dds", ".icns"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),  # of cameras
    *(".dcm", ".dicom", ".nii", ".mha", ".mhd", ".svs", ".ndpi", ".fits", ".npy", ".npz", ".mat"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
    *(".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".parquet", ".tfrecord"),
)
