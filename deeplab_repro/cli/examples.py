"""The examples at the end of each command's help; a test tries them."""

_VOC = "--voc VOCdevkit/VOC2012 --split val"
_TOYVOC = "--voc toyvoc --split val"
_SOLVER = "--solver prototxt/ToyVOC-LargeFOV/solver.prototxt"
_VARIABLES = "--set EXP=toyvoc --set DATA_ROOT=toyvoc --set TRAIN_SET=train --set NET_ID=LargeFOV"

# By command, without its own words.
_ARGUMENTS = {
    "": (
        "demo",
        "segment photo.jpg --model ToyVOC-LargeFOV",
        "models",
    ),
    "demo": (
        "",
        "--scenes 10 --seed 1 --out ten",
    ),
    "segment": (
        "photo.jpg --weights train_iter_6000.caffemodel",
        "photos/ --recursive --skip-existing --model DeepLab-MSc-LargeFOV --html",
        "photo.jpg --model ToyVOC-LargeFOV --out labels --save overlay,cutout",
    ),
    "crf": (
        "photo.jpg --probs photo.npy --out labels.png",
        "photos/ --probs maps/ --out labels --crf 4,83,5 --positional 3,3",
    ),
    "tune": (
        "photo.jpg --probs photo.npy --truth photo.png",
        "photo.jpg --model ToyVOC-LargeFOV --export grid",
    ),
    "predict": (
        f"{_VOC} --out predicted --scores scores",
        f"{_TOYVOC} --model ToyVOC-LargeFOV --out predicted",
    ),
    "evaluate": (
        f"{_TOYVOC} --results predicted",
        f"{_VOC} --results predicted --trimap 1:40 --out scored",
    ),
    "crossval": (
        f"{_VOC} --scores scores --out crossval",
        f"{_TOYVOC} --scores scores --out crossval --w1 5,8 --sigma-alpha 40:20:80 --sigma-beta 5",
    ),
    "paper": (
        "",
        "--voc VOCdevkit/VOC2012 --models models",
        "--figure2 photo.jpg --model ToyVOC-LargeFOV",
    ),
    "models": (
        "",
        "DeepLab-LargeFOV",
    ),
    "fetch": (
        "DeepLab-LargeFOV",
        "DeepLab-LargeFOV --from train_iter_6000.caffemodel",
        "DeepLabv2-VGG16 --train2 --to models",
    ),
    "convert": (
        "--model ToyVOC-LargeFOV --to onnx --out toy.onnx --input rgb-uint8",
        "--prototxt test.prototxt --weights train_iter_6000.caffemodel --to caffe --out current",
    ),
    "inspect": (
        "DeepLab-LargeFOV",
        "train_iter_6000.caffemodel --json",
    ),
    "init": (
        "--net prototxt/DeepLab-LargeFOV/train.prototxt "
        "--weights VGG_ILSVRC_16_layers.caffemodel --out init.caffemodel",
        "--net prototxt/DeepLab-7x7/train.prototxt --set EXP=voc12 "
        "--weights VGG_ILSVRC_16_layers.caffemodel --out init7x7.caffemodel",
    ),
    "train": (
        f"{_SOLVER} {_VARIABLES}",
        f"{_SOLVER} {_VARIABLES} --resume toyvoc/model/LargeFOV/train_iter_2000.solverstate",
    ),
    "toyvoc": (
        "--out toyvoc",
        "--out small --train 80 --val 10 --seed 7",
    ),
    "doctor": (
        "",
        "--compile",
    ),
    "bench": (
        "crf",
        "net --model ToyVOC-LargeFOV",
    ),
    "bench crf": (
        "",
        "--image photo.jpg --labels 21 --repeat 5",
        "--size 500x375,1000x750,2000x1500 --chart crf.svg",
    ),
    "bench net": (
        "",
        "--model ToyVOC-LargeFOV --size 500x375 --threads 1",
        "--size 513x513,769x769,1025x1025 --chart net.svg",
    ),
}

EXAMPLES = {
    command: [" ".join(f"deeplab-repro {command} {each}".split()) for each in arguments]
    for command, arguments in _ARGUMENTS.items()
}
"""Two or three command lines for each command, "" for the program as a whole."""
