# ruff: noqa: E501 - a line is a package
"""Debian packages of the widened corpora: those of Debian 12 when the catalogue was written."""

from specialm.data.corpora.catalogue import DebianPackage

PINS = """
anarchism                15.3-3                             cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948
apache2-doc              2.4.71-1~deb12u1                   a7b3d1131c1c63dbf9999b28e75f9a133d30f70492b419936bd51759ac77a01f
aptitude-doc-en          0.8.13-5                           ba4864ca26464bbe06acd94dc4a79402eea5d7b2d3da943d6ecce3c752bc9e84
cataclysm-dda-data       0.F-3-9                            cd0c097169fe364fdb6bcdab77663d24920a063387ce2fbf1b5d3be01c141105
cmake-doc                3.25.1-1                           6e805a758ffed87cc7ea234cf0a7a1bb8ae78b93d8b5783e7fb989a6320f8133
cppreference-doc-en-html 20170409-2                         603e9b7ef33d08b957e287b2b1f429f2338bccf75144f91b7c9e51d3cb6a14e2
crawl-common             2:0.28.0-1.1                       50c8f0091ba88538dde6585e5eddba02677bfe94d3ee4dc90a5bd3a788650f59
csound-doc               1:6.18.0+dfsg0-1                   02619a52e7a77c4495820fa134c1214b6ce3b5797e3065243f1b49e3b34c9179
debian-faq               11.1                               427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0
debian-handbook          11.20220922                        3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa
debian-history           2.28                               ae364cdfd075bf6a08ca8f5105b44db7093e3b201c95d3b70a863b8849c6a082
debian-policy            4.6.2.0                            ef9d01b625c3b87c3a845c2cd1b66f1a16e9240b2b9e5bee53472a00e8457a39
debian-reference-en      2.100                              9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f
debmake-doc              1.17-7                             f562cf744d906b9255c60d659873609ed5f40d657d99c4a6f3f5c194c24507cf
developers-reference     12.18                              0dba82f6fa16e373f2a84ad07e7971aa9264ad2e7d2ae46b37edbc9c5fd57e2e
dict-devil               1.0-13.1                           6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154
dict-foldoc              20230119-1                         745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3
dict-gcide               0.48.5+nmu2                        7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f
endless-sky-data         0.9.8-1.2                          e45835e05a11e84bb1a890a0ded390246a53b8318f21a25925aa70fa54f80c13
freebsd-manpages         12.2-1                             2d4a9606bd59d4c71e6d8355dee3d2624b0ebdab79d3ab5e9169ed7fbb0c197a
gap-doc                  4.12.1-2                           ceaaee8ae7870d71353d7846ac39575a9a32f87b36928b8037139a54938bd7ab
git-doc                  1:2.39.5-0+deb12u3                 3c89668a11053a6bafade3de1f611f4613db31e082af63f43d8c5b69ad8795ec
gnome-user-docs          43.0-2                             0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f
grass-doc                8.2.1-1                            0f6da53d1f7d51b019dfe64bf45718b64022989afc94bb6c833f495aa2f61ff7
harden-doc               3.19+nmu1                          77ffacb6f8af4afbdf39f3de6040a710ae6ffcc40e2fab5b5d312dfb11d28d94
installation-guide-amd64 20230508+deb12u1                   812c43e1dc906daf671e3efe953dc023205c238e5bd5a3021ce4ca142793573a
libreoffice-help-en-us   4:7.4.7-1+deb12u14                 8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712
lilypond-doc-html        2.24.1-2                           be9fb743e58bd5ad4710146fe05e7c5f447fe4559e42c6acef1916d53e4bec60
linux-doc-6.1            6.1.192-2                          d1d1b5a602f0d439ecc39e713e044bf2df30d839fb4bf8a7b859ba3273c47993
llvm-14-doc              1:14.0.6-12                        d83d576ccf39dd9c698f983677f5569284cb4d55f084dd135859a73d31910b1a
manpages                 6.03-2                             efa1ba4cd19ad7baeae959c9209a7eb74be2ebb858bcabb412597bfc9f588c91
manpages-dev             6.03-2                             96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838
maxima-doc               5.46.0-11                          01a726b693a7e465a62040ac5ade4762194d7553524231d77cd1fcd4a69a75b9
metamath-databases       0.0.0~20210101.git55fe226-2        c72523c221db6c1039fa909150f9c53fb9175809792f2e80e55e1baa965445a1
octave-doc               7.3.0-2                            b27897cc7e3d688daa5cb8f8d1ea47077f3fbd205ce32e22522200ff0c1eadd5
openjdk-17-doc           17.0.21.1+2-1~deb12u1              3e04db24dbcb31d598774973998f1d8212e3424e288befbfef235077325f841d
perl-doc                 5.36.0-7+deb12u4                   f4269cff4576d6f02a6756df842988e58451c7e945b08517dd235531b24e48f8
postgresql-doc-15        15.20-0+deb12u1                    4c44bf2c599f208b3f46454a6cf7a72e25ec46ff74d37b59dd31ad76b00eebb7
python-astropy-doc       5.2.1-2+deb12u1                    d7cfa77ec5239a4ebcdf27c7cdc3d9e604228e99257f91d4260abbb970469b91
python-django-doc        3:3.2.25-0+deb12u7                 87307f067916df72e17180d35b7cde5c7ea6080336cda518efd7f6e66988a7ca
python-sqlalchemy-doc    1.4.46+ds1-1                       8805c3167ef75278ac6fd58ed9856321c2b2e3a7e441edba84b2eb955216d0fd
python-sympy-doc         1.11.1-1                           2a1d50bd49738f0280308fc8d86d5fa5739dbc6391e1c754f4549bc3635e6a31
python3.11-doc           3.11.2-6+deb12u9                   5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be
qtbase5-doc-html         5.15.8+dfsg-11+deb12u3             e052497a7db970f002807e3543043c11e46135641b8284b0a419086ba64f5f47
r-doc-html               4.2.2.20221110-2                   2c615dd386993a440b80fd4e9060318386e31fbe47f5be65f295f5fb34002c5c
sword-comm-mhcc          2.0-1                              06f748215de78ff48fdfdee93e3ffc5af6318b976485f7aedf22309236967e35
sword-comm-tdavid        2.1-1                              bcbfad701c5c4a061475b58309cebc42755a59e87478c8355227c5e046412b3f
sword-text-web           426.0-1                            930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1
tcl8.6-doc               8.6.13+dfsg-2                      e6468aa726a0d77f3e61ae4714bcf7c4c4ddd02828388977f765ffdda4935876
tk8.6-doc                8.6.13-2                           8e93967b9d5d36e2eff002f27261b93417a7c439a8207932fe8335f0ac84b407
wesnoth-1.16-did         1:1.16.9-1                         774619f5aaeb7eb4c848e1cc1758795a8c58e96bd270cceecc9d847dbcc769b3
wesnoth-1.16-dm          1:1.16.9-1                         1997ad4d91e8de36415db2a3445904288f588a76d75111222d2aace409ace5c6
wesnoth-1.16-dw          1:1.16.9-1                         47982e08b2a5d5fd79f400a5453f32c6d7dd56f2ccc10412a9e47dec8a9b3ca4
wesnoth-1.16-ei          1:1.16.9-1                         687abe111ee662b7324336ddadc209758f68d2eeb1ccbf630238f27a0e3c6404
wesnoth-1.16-httt        1:1.16.9-1                         05b16a3f8f8204278794aae14d8e6a7c95d2b2faef7337c4997c827a146d1bbd
wesnoth-1.16-l           1:1.16.9-1                         5383c79046df6121929bc36a8ec3f970ab4cf9c1239ed9b31868201c27f4266d
wesnoth-1.16-low         1:1.16.9-1                         2f304551b97b7fb76a2adb5ad8ffcac3e78476bc8ade17532c90714065c9bf9f
wesnoth-1.16-nr          1:1.16.9-1                         13edcf1bdd23708f531ba81c67100c5800363a119f10155c7f9e146fe7dced34
wesnoth-1.16-sof         1:1.16.9-1                         b6f1ddffdbd1a977f3965dae944e4fb11c147627471f1cfc71c92d1e69efb555
wesnoth-1.16-sota        1:1.16.9-1                         fa44304ff53d259f3c5fe13c03cb8166e55e9c307807d1a5663048c396645ba6
wesnoth-1.16-sotbe       1:1.16.9-1                         877a2f4a7fd8df54fd3b4561ffbd5fa95d0390d7c7372f3cb66367c8007918cb
wesnoth-1.16-thot        1:1.16.9-1                         79d9ec6e43300ea9f41295ccf3fb451e8eeaefc17007123f65d77eb05cb88695
wesnoth-1.16-trow        1:1.16.9-1                         b5009e964ac7157a46d50de911e4f56f5bb4389d60b82a513b5f382671d180d7
wesnoth-1.16-tsg         1:1.16.9-1                         38b5f564253b8e0d9c093b2b7c58aabfef24f688968d9cbaf42abfc1e76d8288
wesnoth-1.16-ttb         1:1.16.9-1                         d0d45693665305191488553ade8dc1d0aa26ab17d4bffae3bf6969db4a766329
wesnoth-1.16-utbs        1:1.16.9-1                         81e05717bebbfb6348c0bed2cd6ce2560c4fd9205ed419c2e7bc039b4a70e228
"""  # name, version, sha256 of the archive


def _package(name: str, version: str, sha256: str) -> DebianPackage:
    return DebianPackage(name, version, f"{name}_{version.replace(':', '%3a')}_all.deb", sha256)


PACKAGES = {line.split()[0]: _package(*line.split()) for line in PINS.strip().splitlines()}
