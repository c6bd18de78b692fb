"""Bags, read and written with `rosbags`: no ROS needed.

Messages are copied byte for byte; only those that are used are deserialised. The library's own errors end here: a
bag may come from anywhere, and be damaged anywhere.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from depth_anything_ros.errors import CannotWrite, DamagedMessage, InputError, os_reason
from depth_anything_ros.files.presence import exists, is_file, is_folder

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# sensor_msgs and what it consists of are the same from Dashing to Lyrical, so any distribution's would do.
STORE = Stores.ROS2_HUMBLE
METADATA = "metadata.yaml"
METADATA_VERSION: Literal[8] = 8  # Humble and everything later read it; Humble does not read 9
IDL_SEPARATOR = "=" * 80 + "\n"
NO_HASH = "RIHS01_" + "0" * 64


class Bag:
    """An open bag.

    Attributes:
        path: folder, `.mcap` or `.db3` file.
        connections: a topic, its type and quality of service each.
        storage: `mcap` or `sqlite3`.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self.connections: list[Connection] = list(reader.connections)
        self.storage = _storage(reader)
        self._reader = reader
        self._store = get_typestore(STORE)
        self._odd: dict[int, bool] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Bag]:
        """Open a bag. Raises InputError: it is not there, is no bag, or is damaged."""
        with _reading(path):
            reader = Reader(path)
            reader.open()
        try:
            yield cls(path, reader)
        finally:
            with suppress(Exception):
                reader.close()

    def of_type(self, *types: str) -> list[Connection]:
        """Return the connections whose messages are of these types, by topic."""
        return sorted((one for one in self.connections if one.msgtype in types), key=lambda one: str(one.topic))

    def images(self) -> list[Connection]:
        """Return the connections with images, raw or compressed, by topic."""
        return self.of_type(IMAGE, COMPRESSED_IMAGE)

    def messages(self, connections: Collection[Connection] | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Go through the messages of connections (None: of all) in recorded order: connection, log time in ns, CDR.

        Raises:
            InputError: the bag is damaged.
        """
        wanted = self.connections if connections is None else connections
        if not wanted:
            return
        with _reading(self.path):
            yield from self._reader.messages(wanted)

    def read(self, connection: Connection, data: bytes) -> Any:
        """Deserialise a message of sensor_msgs. Raises DamagedMessage, also for another type of that name."""
        if self._is_odd(connection):
            raise DamagedMessage(f"the bag defines {connection.msgtype} differently from ROS 2")
        try:
            return self._store.deserialize_cdr(data, connection.msgtype)
        except Exception as error:  # of any kind: the library trusts the lengths in the data
            raise DamagedMessage(f"damaged message: {error}") from error

    def _is_odd(self, connection: Connection) -> bool:
        if connection.msgdef.format != MessageDefinitionFormat.MSG or not connection.msgdef.data:
            return False
        if connection.id not in self._odd:
            self._odd[connection.id] = not self._agrees(connection)
        return self._odd[connection.id]

    def _agrees(self, connection: Connection) -> bool:
        try:
            own = get_types_from_msg(connection.msgdef.data, connection.msgtype)
        except Exception:  # what cannot be parsed agrees with nothing
            return False
        known = self._store.fielddefs
        return all(name in known and fields[1] == known[name][1] for name, fields in own.items())


class BagWriter:
    """A bag that is being written."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = get_typestore(STORE)
        self._copies: dict[tuple[str, str, str], Connection] = {}
        self.messages = 0

    @classmethod
    @contextmanager
    def create(cls, path: Path, storage: str) -> Iterator[BagWriter]:
        """Write a bag into a new folder. It is complete when the context ends without an error.

        Raises:
            CannotWrite: the folder cannot be made, or takes no more.
        """
        with _writing(path):
            writer = Writer(path, version=METADATA_VERSION, storage_plugin=STORAGES[storage])
            writer.open()
        try:
            yield cls(writer)
            with _writing(path):
                writer.close()
        finally:
            with suppress(Exception):
                writer.abort()  # nothing, once it is closed

    def copy_topics(self, connections: Collection[Connection]) -> None:
        """Add the topics of another bag, those without a message included."""
        for connection in connections:
            if _identity(connection) not in self._copies:
                self._copies[_identity(connection)] = self._add_copy(connection)

    def copy(self, connection: Connection, time_ns: int, data: bytes) -> None:
        """Write a message of another bag as it is. Call `copy_topics` with its connection before."""
        self._write(self._copies[_identity(connection)], time_ns, data)

    def add_topic(self, topic: str, type_: str) -> Connection:
        """Add a topic of our own. Raises CannotWrite."""
        with _writing(self._writer.path):
            return self._writer.add_connection(topic, type_, typestore=self._store)

    def write(self, connection: Connection, time_ns: int, **fields: Any) -> None:
        """Write a message of our own, given its fields: messages are made by `make`, arrays are NumPy's."""
        message = self.make(connection.msgtype, **fields)
        self._write(connection, time_ns, self._store.serialize_cdr(message, connection.msgtype))

    def make(self, type_: str, **fields: Any) -> Any:
        """Make a message, or part of one."""
        return self._store.types[type_](**fields)

    def _write(self, connection: Connection, time_ns: int, data: bytes | memoryview) -> None:
        with _writing(self._writer.path):
            self._writer.write(connection, time_ns, data)
        self.messages += 1

    def _add_copy(self, connection: Connection) -> Connection:
        definition, digest = _definition(connection)
        assert isinstance(connection.ext, ConnectionExtRosbag2)
        with _writing(self._writer.path):
            return self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                msgdef=definition,
                rihs01=digest,
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )


def is_bag(path: Path) -> bool:
    """Whether a folder looks like a bag: it has a metadata file."""
    return is_file(path / METADATA)


def files_of(path: Path) -> list[Path]:
    """Return the files of a bag that is given as a folder or a file. Raises InputError: the folder cannot be read."""
    if not is_folder(path):
        return [path]
    try:
        return sorted(file for file in path.iterdir() if is_file(file))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {os_reason(error)}") from error


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there. Raises CannotWrite."""
    try:
        if exists(folder):
            shutil.rmtree(folder)
    except OSError as error:
        raise CannotWrite(f"{folder} cannot be removed: {os_reason(error)}") from error


def _storage(reader: Reader) -> str:
    """Return the name of the storage, by the suffix of the first file; `mcap`, the default, if there is no file."""
    files = [storage.path for storage in getattr(reader.storage, "storages", [reader.storage])]
    return "sqlite3" if files and files[0].suffix == ".db3" else "mcap"


def _identity(connection: Connection) -> tuple[str, str, str]:
    """Return what the writer tells connections apart by."""
    return connection.topic, connection.msgtype, repr(connection.ext)


def _definition(connection: Connection) -> tuple[str, str]:
    """Return the definition of a type and its hash: the bag's own, else ROS 2's, else an empty one."""
    store = get_typestore(STORE)
    definition = connection.msgdef.data
    if not definition and connection.msgtype in store.fielddefs:
        definition = store.generate_msgdef(connection.msgtype, ros_version=2)[0]
    return definition, connection.digest or _hash(definition, connection.msgtype)


def _hash(definition: str, type_: str) -> str:
    store = get_typestore(Stores.EMPTY)
    try:
        if definition.startswith(f"{IDL_SEPARATOR}IDL: "):
            for part in definition.split(IDL_SEPARATOR)[1:]:
                store.register(get_types_from_idl(part.split("\n", 1)[1]))
        else:
            store.register(get_types_from_msg(definition, type_))
        return str(store.hash_rihs01(type_))
    except Exception:  # a definition that cannot be read has no hash, and its messages are copied all the same
        return NO_HASH


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damage shows as errors of struct, SQLite, YAML, the decompressors, and as plain ones
        text = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as a bag: {text}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, WriterError, OverflowError, struct.error) as error:
        reason = os_reason(error) if isinstance(error, OSError) else error
        raise CannotWrite(f"{path} cannot be written: {reason}") from error
