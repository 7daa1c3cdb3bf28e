"""The parts of a model.py that are the same for all nets that need them."""

HEAD = '''\
"""{net}, a net of Caffe's, for PyTorch. Its weights are in model.safetensors.

{usage}
The layers have their names in Caffe. The licence of the weights is that of whoever published them.
deeplab-repro {version} wrote this file, which needs torch and safetensors alone.
"""

{imports}

WEIGHTS = Path(__file__).with_name("model.safetensors")
'''

USE_OF_MAP = """\
    from model import from_pretrained, preprocess

    net = from_pretrained()
    height, width, _ = image.shape  # uint8, RGB
    scores = net(preprocess(image))[..., :height, :width]
"""
USE_OF_IMAGE = """\
    from model import from_pretrained, preprocess

    scores = from_pretrained()(preprocess(image))  # HxWx3 uint8, RGB
"""
USE_OF_DATA = """\
    from model import from_pretrained

    scores = from_pretrained()(data)  # {shape} float32, as Caffe takes it
"""

INTERP = '''\
def interp(x: Tensor, zoom: int) -> Tensor:
    """Caffe's Interp: bilinear, with aligned corners, `zoom` steps from pixel to pixel."""
    size = [(n - 1) * zoom + 1 for n in x.shape[2:]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
'''
SHRINKING_INTERP = '''\
def interp(x: Tensor, zoom: int, shrink: int = 1) -> Tensor:
    """Caffe's Interp: bilinear, with aligned corners, `zoom` steps for `shrink` pixels."""
    size = [(n - 1) // shrink * zoom + 1 for n in x.shape[2:]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
'''
CROP = '''\
def crop(x: Tensor, like: Tensor, begins: dict[int, int]) -> Tensor:
    """Caffe's Crop: the part of x that begins there on these axes, of the size of `like`."""
    for axis, begin in begins.items():
        x = x.narrow(axis, begin, like.shape[axis])
    return x
'''
BATCH_NORM = '''\
class BatchNorm(nn.Module):
    """Caffe's BatchNorm, by statistics that stay as they are in training too."""

    def __init__(self, channels: int, eps: float = 1e-05) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
'''
BN = '''\
class BN(nn.Module):
    """PSPNet's BN, by statistics that stay as they are in training too."""

    def __init__(self, channels: int, eps: float = 1e-05) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, eps=self.eps)
'''
SCALE = '''\
class Scale(nn.Module):
    """Caffe's Scale: a weight and a bias for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]
'''
RUN = '''\
    def _run(self, x: Tensor, *names: str) -> Tensor:
        """Run layers by their names, one after the other."""
        for name in names:
            x = self.get_submodule(name)(x)
        return x
'''

FROM_PRETRAINED = '''\
def from_pretrained(path: str | os.PathLike[str] = WEIGHTS) -> {net}:
    """The net with its weights, ready to run; `.train()` makes it ready to be trained."""
    net = {net}()
    net.load_state_dict(load_file(path))
    return net.eval()
'''
FROM_PRETRAINED_WITH_MEAN = '''\
def from_pretrained(path: str | os.PathLike[str] = WEIGHTS) -> {net}:
    """The net with its weights, ready to run; `.train()` makes it ready to be trained."""
    net = {net}()
    weights = load_file(path)
    del weights["mean"]  # it is for preprocess
    net.load_state_dict(weights)
    return net.eval()
'''

PREPROCESS = '''\
def preprocess(image: Any) -> Tensor:
    """Make the net's input of an image, HxWx3 uint8, RGB: 1x3xHxW, BGR minus the mean.{padding}"""
    pixels = torch.as_tensor(image)
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"image is {{list(pixels.shape)}} {{pixels.dtype}}, expected HxWx3 uint8")
{checked}{mean}    data = {data}
{end}'''
FIXED_SIZE = """\
    if pixels.shape[:2] != ({height}, {width}):
        raise ValueError(f"image is {{list(pixels.shape)}}, expected {height}x{width}x3")
"""
MEAN = """\
    mean = torch.tensor(MEAN_BGR, device=pixels.device)[:, None, None]
"""
MEAN_IN_FILE = """\
    with safe_open(WEIGHTS, "pt") as file:
        mean = file.get_tensor("mean").to(pixels.device)
"""
PADDING = """

    Zeros at the bottom and right make it {first} at least, and that plus a multiple of {step}.
    """
PADDED = """\
    height, width = pixels.shape[:2]
    bottom = max({first[0]} - height, ({first[0]} - height) % {step[0]})
    right = max({first[1]} - width, ({first[1]} - width) % {step[1]})
    return F.pad(data[None], (0, right, 0, bottom))
"""
UNPADDED = """\
    return data[None]
"""
