"""Every shape that a DSG config has had, as DSG's own examples and tests write them."""

FLAT = """\
# repo_name must match the name of the directory containing .dsg/
repo_name: data
repo_path: /var/repos/dsg
host: dsg-server  # in most applications this will be `scott`
repo_type: zfs
data_dirs:
  - input
  - output
  - frozen
ignored_names:
  - .DS_Store
  - __pycache__
ignored_suffixes:
  - .pyc
  - "~"
ignored_paths:
  - "data/task1/input/some_credential_file.txt"
"""
WRAPPED = """\
transport: ssh
ssh:
  host: scott
  path: /var/repos
  name: justice
  type: xfs
project:
  data_dirs: [input, output]
  ignore:
    paths: [input/private/]
    names: [.DS_Store]
    suffixes: [.tmp]
"""
NAMED = f"name: justice\n{WRAPPED.replace('  name: justice', '  name: justice-old')}"
FLATTENED = """\
name: justice
transport: ssh
ssh: {host: localhost, path: /tmp/test, type: zfs}
data_dirs: !!set {input: null, output: null}
migrated: false
"""
REPOSITORY = """\
name: justice
repository:
  type: zfs
  host: scott
  pool: tank
  mountpoint: /var/repos
data_dirs: ["*"]
"""
REPOSITORY_XFS = """\
name: SV_2024
repository: {type: xfs, host: scott, mountpoint: /srv/repos}
project: {data_dirs: [input], ignore: {names: [], suffixes: [], paths: []}}
colour: blue
"""
SHAPES = {
    "flat": FLAT,
    "wrapped": WRAPPED,
    "named": NAMED,
    "flattened": FLATTENED,
    "repository": REPOSITORY,
    "repository-xfs": REPOSITORY_XFS,
}
ZFS_POLICY = """\
storage:
  node: node-a
  pool: tank
  dataset: tank/dsg/justice
  mountpoint: /srv/dsg/justice
  properties:
    {compression: zstd, recordsize: 1Mi, atime: false, xattr: sa, quota: 500Gi, refquota: 200Gi, reservation: none}
owner: {uid: 2000, gid: 2000, mode: "2770"}
access: {writers: {groups: [researchers]}}
"""
XFS_POLICY = """\
storage: {node: node-a, directory: /data/dsg/justice, mountpoint: /srv/dsg/justice}
owner: {uid: 2000, gid: 2000, mode: "2770"}
access: {}
"""
